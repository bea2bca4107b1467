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
import shutil
import socket
import sys
import tempfile
import threading
import time

import duckdb

con = None
database = None
# Set when there are no more requests.
finished = threading.Event()


def open_(file, threads, memory, extension, programs, watched):
    """Opens the data read-only. The database is attached to one in memory, so that it can be attached anew."""
    global con, database
    database = file
    spill = f"{file}.{os.getpid()}.tmp"
    config = {"allow_unsigned_extensions": "true", "threads": threads, "temp_directory": spill}
    if memory:
        config["memory_limit"] = memory
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET enable_progress_bar = false")
    if extension:
        con.execute("LOAD '{}'".format(extension.replace("'", "''")))
    if programs:
        set_programs(con, programs)
    attach()
    if watched:
        watch()
    return {}


def watch():
    """Does what `duckbpf top` does, for as long as the process lives: calls are timed, and their numbers asked for once a second."""
    # A socket's path is short.
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "socket")
    con.execute(f"SET hook_socket = '{path}'")
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    shutil.rmtree(folder)
    lines = client.makefile("rb")

    def ask(operation, **fields):
        client.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
        assert b'"ok"' in lines.readline(), operation

    def look():
        while not finished.wait(1):
            ask("stats")

    ask("sampling", on=True)
    threading.Thread(target=look).start()


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
    """When it started and ended, and the rows."""
    start = time.monotonic_ns()
    rows = connection.execute(sql).fetchall()
    return (start, time.monotonic_ns()), rows


def digest(rows, order):
    """Of a result. Rows that ORDER BY leaves in any order (equal in all columns of `order`) are brought into one."""
    ties = itertools.groupby(rows, key=lambda row: [row[column] for column in order])
    return hashlib.sha256("\n".join(text for _, tie in ties for text in sorted(map(repr, tie))).encode()).hexdigest()


def time_(sql, order, cold):
    """Runs a query once; cold: with nothing of the data in memory."""
    if cold:
        chill()
    gc.collect()
    gc.disable()
    (start, end), rows = run(con, sql)
    gc.enable()
    return {"seconds": (end - start) / 1e9, "span_ns": [start, end], "digest": digest(rows, order)}


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
    return {
        hook: (calls, keys)
        for hook, calls, keys in con.execute("SELECT hook, calls, keys FROM hook_points()").fetchall()
    }


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
    phases = ["read_ns", "parse_ns", "check_ns", "compile_ns", "quality_ns", "publish_ns"]
    query = "SELECT {} FROM hook_programs() WHERE name = ?".format(", ".join(phases))
    samples = {"total_ns": [], **{phase: [] for phase in phases}}
    for _ in range(repeats):
        (start, end), _ = run(con, statement)
        samples["total_ns"].append(end - start)
        for phase, value in zip(phases, con.execute(query, [name]).fetchone(), strict=True):
            samples[phase].append(value or 0)
    return samples


def statement(repeats):
    """What a statement that does nothing costs its client."""
    spans = (run(con, "SELECT 1")[0] for _ in range(repeats))
    return [end - start for start, end in spans]


def swap(queries, clients, seconds, pause_s, sets):
    """Changes the set of programs over and over while `clients` connections run the queries.

    `queries` are [sql, order, digest of the right result]; `sets` are taken in turn, with a pause in between.
    """
    over = threading.Event()
    counts = [{"results": 0, "wrong": 0, "failed": 0} for _ in range(clients)]

    def client(number):
        connection = con.cursor()
        connection.execute("USE tpch")
        for turn in itertools.count(number * 5):
            if over.is_set():
                return
            sql, order, right = queries[turn % len(queries)]
            try:
                _, result = run(connection, sql)
                counts[number]["results"] += 1
                counts[number]["wrong"] += digest(result, order) != right
            except duckdb.Error:
                counts[number]["failed"] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    control = con.cursor()
    times = []
    end = time.monotonic() + seconds
    try:
        for turn in itertools.count():
            if time.monotonic() > end:
                break
            start = time.perf_counter_ns()
            set_programs(control, sets[turn % len(sets)])
            times.append(time.perf_counter_ns() - start)
            time.sleep(pause_s)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return {**{key: sum(count[key] for count in counts) for key in counts[0]}, "swap_ns": times}


OPERATIONS = {
    "open": open_,
    "time": time_,
    "rows": rows,
    "count": count,
    "reload": reload,
    "statement": statement,
    "swap": swap,
}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = OPERATIONS[request.pop("op")](**request)
    except duckdb.Error as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
finished.set()
