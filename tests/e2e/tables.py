"""Tables that several test modules read."""

from collections.abc import Callable
from typing import Any

ROWS = 4_000_000
"""Of the table that `cold` makes."""
SCAN = "SELECT sum(v), sum(w) FROM t"
"""Reads most of it."""


def cold(file_db: Callable[..., Any]) -> Callable[..., Any]:
    """A database file with a table of some 50 MB, opened anew, so that nothing of it is in memory."""
    db = file_db(threads="1")
    db(f"CREATE TABLE t AS SELECT i % 10007 AS k, hash(i) AS v, hash(i + 1) AS w FROM range({ROWS}) r(i)")
    db("CHECKPOINT")
    db.connection.close()
    return lambda **config: file_db(**{"threads": "1", **config})


def counted(file_db: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """A database with a table of numbered rows, made when it is first opened."""

    def open_with(**config: str) -> Any:
        db = file_db(**config)
        db(f"CREATE TABLE IF NOT EXISTS t AS SELECT i AS k, hash(i) AS v FROM range({rows}) r(i)")
        return db

    return open_with
