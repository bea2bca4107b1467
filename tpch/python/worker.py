"""One run of the harness: a process of the official DuckDB wheel that answers requests, JSON lines on stdin and stdout.

A request names its operation and the operation's arguments: {"op": "time", "sql": "...", ...}. The answer is an object; one with the key
`error` means that DuckDB refused, and the process goes on. Times are seconds of the monotonic clock around execute and fetchall.
"""

import datetime
import decimal
import gc
import hashlib
import itertools
import json
import os
import sys
import threading
import time

import duckdb

con = None
database = None


def open_(file, threads, memory, load, programs):
    """Opens the data read-only. The database is attached to one in memory, so that it can be attached anew."""
    global con, database
    database = file
    config = {"allow_unsigned_extensions": "true", "threads": threads}
    if memory:
        config["memory_limit"] = memory
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET enable_progress_bar = false")
    if load:
        con.execute("LOAD duckbpf")
    if programs:
        set_programs(con, programs)
    attach()
    return {"version": duckdb.__version__, "pid": os.getpid()}


def set_programs(connection, programs):
    connection.execute("SET hook_program = '{}'".format(", ".join(programs).replace("'", "''")))


def attach():
    con.execute("ATTACH '{}' AS tpch (READ_ONLY)".format(database.replace("'", "''")))
    con.execute("USE tpch")


def chill():
    """Leaves nothing of the data in memory: DuckDB drops its blocks with the database, the kernel its pages of the file."""
    con.execute("USE memory")
    con.execute("DETACH tpch")
    with open(database, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    attach()


def run(connection, sql):
    start = time.perf_counter_ns()
    rows = connection.execute(sql).fetchall()
    return (time.perf_counter_ns() - start) / 1e9, rows


def digest(rows, order):
    """Of a result. Rows that ORDER BY leaves in any order (equal in all columns of `order`) are brought into one."""
    ties = itertools.groupby(rows, key=lambda row: [row[column] for column in order])
    return hashlib.sha256("\n".join(text for _, tie in ties for text in sorted(map(repr, tie))).encode()).hexdigest()


def time_(sql, order, cold):
    """Runs a query twice. The first time is cold where that was asked for, else it is only there to warm up."""
    if cold:
        chill()
    gc.collect()
    gc.disable()
    first, rows = run(con, sql)
    first_digest = digest(rows, order)
    hot, rows = run(con, sql)
    gc.enable()
    return {"first_s": first, "hot_s": hot, "digests": [first_digest, digest(rows, order)]}


def plain(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def rows(sql):
    result = con.execute(sql)
    columns = [column[0] for column in result.description]
    return {"columns": columns, "rows": [[plain(value) for value in row] for row in result.fetchall()]}


def counters():
    return {hook: (calls, keys) for hook, calls, keys in con.execute("SELECT hook, calls, keys FROM hook_points()").fetchall()}


def count(sql):
    """Hook calls of one warm run of a query, less what two readings of the counters cost by themselves."""
    con.execute(sql).fetchall()
    readings = [counters(), counters()]
    con.execute(sql).fetchall()
    readings.append(counters())

    def difference(hook, column):
        idle, before, after = (reading[hook][column] for reading in readings)
        return max(0, (after - before) - (before - idle))

    calls = {hook: difference(hook, 0) for hook in readings[0]}
    return {"calls": calls, "hash_keys": difference("hash", 1)}


def reload(program, repeats):
    """Replaces a program by itself, the file read anew each time."""
    statement = "CALL hook_attach('{}', replace := true)".format(program.replace("'", "''"))
    name = os.path.basename(program).removesuffix(".bpf.o")
    phases = ["read_ns", "parse_ns", "check_ns", "compile_ns", "publish_ns"]
    query = "SELECT {} FROM hook_programs() WHERE name = ?".format(", ".join(phases))
    samples = {"total_ns": [], **{phase: [] for phase in phases}}
    for _ in range(repeats):
        seconds, _ = run(con, statement)
        samples["total_ns"].append(round(seconds * 1e9))
        for phase, value in zip(phases, con.execute(query, [name]).fetchone()):
            samples[phase].append(value)
    return {"samples": samples}


def swap(queries, clients, swaps, sets):
    """Changes the set of programs `swaps` times while `clients` connections run the queries over and over.

    `queries` are [sql, order, digest of the right result]; `sets` are taken in turn.
    """
    swapped = threading.Event()
    counts = [dict(results=0, wrong=0, failed=0) for _ in range(clients)]
    slowest = [0.0] * clients
    started = threading.Barrier(clients + 1)

    def client(number):
        connection = con.cursor()
        connection.execute("USE tpch")
        count = counts[number]
        for turn in itertools.count(number * 5):
            sql, order, right = queries[turn % len(queries)]
            try:
                seconds, result = run(connection, sql)
                count["results"] += 1
                count["wrong"] += digest(result, order) != right
                slowest[number] = max(slowest[number], seconds)
            except duckdb.Error:
                count["failed"] += 1
            if turn == number * 5:
                started.wait()
            if swapped.is_set():
                return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    started.wait()
    control = con.cursor()
    times = []
    begin = time.perf_counter()
    for turn in range(swaps):
        start = time.perf_counter_ns()
        set_programs(control, sets[turn % len(sets)])
        times.append(time.perf_counter_ns() - start)
        say(swaps=turn + 1)
    swapped.set()
    for thread in threads:
        thread.join()
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    return {**total, "swap_ns": times, "slowest_s": max(slowest), "took_s": time.perf_counter() - begin}


OPERATIONS = {"open": open_, "time": time_, "rows": rows, "count": count, "reload": reload, "swap": swap}


def say(**answer):
    print(json.dumps(answer), flush=True)


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = OPERATIONS[request.pop("op")](**request)
    except duckdb.Error as error:
        answer = {"error": str(error)}
    say(**answer)
