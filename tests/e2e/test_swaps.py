"""Programs are swapped while queries run: no query is lost or wrong, none waits, and memory stays flat."""

import itertools
import os
import threading
import time
from pathlib import Path

import duckdb
import pytest

from official import CONFIG

SWAPS = 10_000

QUERIES = [
    "SELECT k, count(*), sum(v) FROM t GROUP BY k ORDER BY k",
    "SELECT count(*), sum(a.v) FROM t a JOIN u b ON a.k = b.k",
    "SELECT count(*) FROM t WHERE k IN (SELECT k FROM u WHERE w % 3 = 0)",
    "SELECT name, sum(v) FROM t JOIN u USING (k) GROUP BY name ORDER BY name",
    "SELECT sum(r) FROM (SELECT row_number() OVER (PARTITION BY k % 97 ORDER BY v) AS r FROM t)",
    "SELECT count(*) FROM (SELECT DISTINCT v, k FROM t)",
]


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "swaps.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT (i * 7919) % 5003 AS k, i AS v FROM range(200000) r(i)")
        connection.execute(
            "CREATE TABLE u AS SELECT i AS k, i * 3 AS w, 'name ' || (i % 50) AS name FROM range(0, 5003, 2) r(i)"
        )
    return path


class Clients:
    """Threads that run the queries, each in an order of its own, and compare every result."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, count: int) -> None:
        self.answers = [connection.execute(query).fetchall() for query in QUERIES]
        self.done = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(connection.cursor(), offset)) for offset in range(count)
        ]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads), "a query hangs"

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


def test_swaps_under_load_lose_nothing(data, gallery):
    connection = duckdb.connect(str(data), config={**CONFIG, "threads": "2"})
    connection.execute("LOAD duckbpf")
    swapper = connection.cursor()
    sets = [
        [gallery / f"{name}.bpf.o" for name in names]
        for names in (
            ("hash_wy",),
            ("unpin_drop_scanned", "default_load"),
            ("schedule_young_first",),
            ("default_hash",),
            ("default_execute_forever", "default_update_used_memory"),
            (),
        )
    ]
    statements = [f"SET hook_program = '{', '.join(map(str, paths))}'" for paths in sets]

    def swap(count: int) -> None:
        for statement in itertools.islice(itertools.cycle(statements), count):
            swapper.execute(statement)

    with Clients(connection, 4) as clients:
        swap(SWAPS // 5)
        memory, maps, files = resident(), mappings(), len(os.listdir("/proc/self/fd"))
        began = time.monotonic()
        swap(SWAPS - SWAPS // 5)
        took = time.monotonic() - began
        grown = resident() - memory, mappings() - maps, len(os.listdir("/proc/self/fd")) - files
    print(f"{SWAPS} swaps, {(SWAPS - SWAPS // 5) / took:.0f} a second beside {clients.done} queries; grown: {grown}")
    assert clients.wrong == []
    assert clients.done > 20
    assert took < 120
    assert grown[0] < 64 << 20
    assert grown[1] < 200
    assert grown[2] < 10


def test_two_hashes_in_a_tight_loop(data, gallery):
    """Joins, aggregations, windows and spilling queries, while the hash under them changes all the time."""
    connection = duckdb.connect(str(data), config={**CONFIG, "threads": "4", "memory_limit": "60MB"})
    connection.execute("LOAD duckbpf")
    swapper = connection.cursor()
    hashes = [gallery / "hash_wy.bpf.o", gallery / "default_hash.bpf.o"]
    deadline = time.monotonic() + 15
    swaps = 0
    with Clients(connection, 3) as clients:
        while time.monotonic() < deadline:
            swapper.execute(f"SET hook_program = '{hashes[swaps % 2]}'")
            swaps += 1
    assert clients.wrong == []
    assert clients.done > 5
    assert swaps > 100
    ((keys,),) = connection.execute("SELECT keys FROM hook_points() WHERE hook = 'hash'").fetchall()
    assert keys > 1_000_000
