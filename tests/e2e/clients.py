"""Clients that run queries and compare every result, while something else happens."""

import itertools
import os
import threading
from pathlib import Path
from typing import Self

import duckdb

QUERIES = [
    "SELECT k, count(*), sum(v) FROM t GROUP BY k ORDER BY k",
    "SELECT count(*), sum(a.v) FROM t a JOIN u b ON a.k = b.k",
    "SELECT count(*) FROM t WHERE k IN (SELECT k FROM u WHERE w % 3 = 0)",
    "SELECT name, sum(v) FROM t JOIN u USING (k) GROUP BY name ORDER BY name",
    "SELECT sum(r) FROM (SELECT row_number() OVER (PARTITION BY k % 97 ORDER BY v) AS r FROM t)",
    "SELECT count(*) FROM (SELECT DISTINCT v, k FROM t)",
]


def make_data(path: Path) -> None:
    """The tables that the queries read."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT (i * 7919) % 5003 AS k, i AS v FROM range(200000) r(i)")
        connection.execute(
            "CREATE TABLE u AS SELECT i AS k, i * 3 AS w, 'name ' || (i % 50) AS name FROM range(0, 5003, 2) r(i)"
        )


class Threads:
    """Threads that go on, each with a number and a connection of its own, while the context is open."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, count: int) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(connection.cursor(), number)) for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads), f"one of the {type(self).__name__} hangs"

    def _run(self, connection: duckdb.DuckDBPyConnection, number: int) -> None:
        """What a thread does until `_stop` is set."""
        raise NotImplementedError


class Clients(Threads):
    """Threads that run the queries, each in an order of its own, and compare every result."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, count: int) -> None:
        super().__init__(connection, count)
        self.answers = [connection.execute(query).fetchall() for query in QUERIES]
        self.done = 0
        self.wrong: list[str] = []

    def _run(self, connection: duckdb.DuckDBPyConnection, offset: int) -> None:
        # Clients keep all cores busy; whoever swaps shall still get a turn a thousand times a second.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        for index in itertools.count(offset):
            if self._stop.is_set():
                return
            number = index % len(QUERIES)
            try:
                right = connection.execute(QUERIES[number]).fetchall() == self.answers[number]
                problem = None if right else "wrong result"
            except Exception as error:
                problem = str(error)
            with self._lock:
                self.done += 1
                if problem:
                    self.wrong.append(f"{QUERIES[number]}: {problem}")


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())
