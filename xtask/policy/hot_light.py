"""A table of log lines that nobody scanned, and one that was scanned often, both loaded anew: how large the files get, and how long scans of
them take, in an untouched DuckDB and in memory."""

import os
import tempfile
import time

import duckdb

from common import answer, connect, quantile, settings

ROWS = 1_500_000
LINES = f"""
SELECT i AS id, TIMESTAMP '2026-01-01' + INTERVAL (i) SECOND AS at,
    format('{{}} request={{:x}} user={{}} path=/api/v1/{{}}/{{}} status={{}} took={{}}us agent=Mozilla/5.0 (X11; Linux x86_64) region=eu-{{}}',
        ['INFO', 'WARN', 'ERROR', 'DEBUG'][(1 + hash(i) % 4)::INT], hash(i), hash(i * 7) % 50000,
        ['orders', 'items', 'carts', 'users'][(1 + hash(i * 3) % 4)::INT], hash(i * 5) % 1000000,
        [200, 200, 200, 404, 500][(1 + hash(i * 11) % 5)::INT], hash(i * 13) % 100000, hash(i * 17) % 9) AS line
FROM range({ROWS}) r(i)
"""
LOOK = "SELECT count(*) FROM lines WHERE line LIKE '%status=500%' AND contains(line, 'orders')"
LOOKS = 9


def write(path, scans):
    """A table that was scanned so often before it is loaded anew."""
    connection = connect(path, storage_compatibility_version="latest")
    connection.execute(f"CREATE TABLE lines AS {LINES} LIMIT 1000")
    for _ in range(scans):
        connection.execute(LOOK).fetchall()
    connection.execute(f"CREATE OR REPLACE TABLE lines AS {LINES}")
    began = time.perf_counter()
    connection.execute("CHECKPOINT")
    written_s = time.perf_counter() - began
    if settings["programs"] is not None:
        connection.execute("SET hook_program = ''")
    connection.close()
    return written_s


def look(path):
    """Megabytes, the scan's time, and what it found."""
    seconds = []
    with duckdb.connect(path, config={"threads": settings["threads"]}) as connection:
        for _ in range(LOOKS):
            began = time.perf_counter()
            found = connection.execute(LOOK).fetchall()
            seconds.append(time.perf_counter() - began)
    return os.stat(path).st_size / 1e6, quantile(seconds[2:], 0.5), found


with tempfile.TemporaryDirectory(dir=settings["folder"]) as folder:
    cold, hot = f"{folder}/cold.duckdb", f"{folder}/hot.duckdb"
    cold_write_s, hot_write_s = write(cold, 0), write(hot, 30)
    cold_mb, cold_scan_s, cold_found = look(cold)
    hot_mb, hot_scan_s, hot_found = look(hot)
    answer(
        cold_mb=cold_mb,
        cold_scan_s=cold_scan_s,
        cold_write_s=cold_write_s,
        hot_mb=hot_mb,
        hot_scan_s=hot_scan_s,
        hot_write_s=hot_write_s,
        wrong=int(cold_found != hot_found),
    )
