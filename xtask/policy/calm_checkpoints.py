"""Bursts of inserts of 200 rows, an update with every fifth, a pause of 150 ms every three seconds; the default threshold of 16 MB. A
statement that comes late counts from when it was due."""

import os
import shutil
import tempfile
import time

import duckdb

from common import answer, connect, quantile, settings

BURST_S, PAUSE_S, EVERY_S = 2.9, 0.15, 0.006
ROWS = 200
INSERT = f"INSERT INTO t SELECT ? + i, hash(? + i), repeat(chr(65 + (i % 26)::INTEGER), 60) FROM range({ROWS}) r(i)"
UPDATE = "UPDATE t SET v = v + 1 WHERE id BETWEEN ? AND ?"
CHECK = "SELECT count(*), sum(v) FROM t"


def size(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def burst(connection, log, latencies, row):
    """Until the burst is over: one statement every few milliseconds. Returns the next row's number and the longest log."""
    longest = 0
    due = time.perf_counter()
    end = due + BURST_S
    while due < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.execute(INSERT, [row, row])
        if len(latencies) % 5 == 4:
            connection.execute(UPDATE, [row - 10 * ROWS, row - 9 * ROWS])
        latencies.append(1000 * (time.perf_counter() - due))
        row += ROWS
        due += EVERY_S
        if len(latencies) % 10 == 0:
            longest = max(longest, size(log))
    return row, max(longest, size(log))


def recover(path, expected):
    """Database and log as kill -9 leaves them, opened anew: whole, and timed."""
    killed = f"{path}.killed"
    shutil.copy(path, killed)
    if size(f"{path}.wal"):
        shutil.copy(f"{path}.wal", f"{killed}.wal")
    began = time.perf_counter()
    with duckdb.connect(killed) as connection:
        seconds = time.perf_counter() - began
        if connection.execute(CHECK).fetchall() != expected:
            raise AssertionError("rows were lost")
    return seconds


with tempfile.TemporaryDirectory(dir=settings["folder"]) as folder:
    path = f"{folder}/calm.duckdb"
    connection = connect(path)
    if settings["run"] == "never":
        connection.execute("SET checkpoint_threshold = '10GB'")
    connection.execute("CREATE TABLE t(id BIGINT, v UBIGINT, s VARCHAR)")
    latencies, row, longest = [], 0, 0
    for _ in range(max(1, round(settings["seconds"] / (BURST_S + PAUSE_S)))):
        row, log = burst(connection, f"{path}.wal", latencies, row)
        longest = max(longest, log)
        time.sleep(PAUSE_S)
    recovery_s = recover(path, connection.execute(CHECK).fetchall())
    connection.close()
    answer(
        **{f"p{str(q).replace('.', '')}_ms": quantile(latencies, q / 100) for q in (50, 99, 99.9)},
        max_ms=max(latencies),
        wal_mb=longest / 1e6,
        recovery_s=recovery_s,
        statements=len(latencies),
    )
