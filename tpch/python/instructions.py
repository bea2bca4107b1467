"""Counts instructions of the 22 queries under callgrind: begins to count before the second run of each query, ends after it.

Arguments: a JSON object with `file`, `extension` (or null), `marks` (a library with begin() and end(name)) and `queries` (numbers
and SQL). One thread, no caches that fill by time, Python's hashes and collector fixed: what differs is DuckDB.
"""

import ctypes
import gc
import json
import sys

import duckdb

job = json.loads(sys.argv[1])
marks = ctypes.CDLL(job["marks"])

con = duckdb.connect(":memory:", config={"allow_unsigned_extensions": "true", "threads": "1", "async_threads": "1"})
con.execute("SET enable_progress_bar = false")
if job["extension"]:
    con.execute("LOAD '{}'".format(job["extension"].replace("'", "''")))
con.execute("ATTACH '{}' AS tpch (READ_ONLY)".format(job["file"].replace("'", "''")))
con.execute("USE tpch")
gc.disable()
marks.start()
for number, sql in job["queries"]:
    con.execute(sql).fetchall()
    marks.begin()
    con.execute(sql).fetchall()
    marks.end(str(number).encode())
