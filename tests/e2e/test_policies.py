"""Policies of the gallery on run_task and query_begin: they learn, and change no result. What they gain is measured by `cargo xtask bench policy`."""

import threading
from collections.abc import Callable

import pytest

ROWS = 1_000_000
HEAVY = "SELECT count(DISTINCT hash(k)) FROM t"
LIGHT = "SELECT sum(k) FROM t WHERE k < 1000"


@pytest.fixture
def table(file_db):
    def open_with(**config: str):
        db = file_db(**config)
        db(f"CREATE TABLE t AS SELECT i AS k FROM range({ROWS}) r(i)")
        return db

    return open_with


def side_by_side(db, queries: list[str]) -> list:
    """What the queries give, each on a thread and a connection of its own. None may hang."""
    results: list = [None] * len(queries)

    def run(number: int) -> None:
        results[number] = db.connection.cursor().execute(queries[number]).fetchall()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a query hangs"
    return results


@pytest.mark.parametrize("policy", ["interactive-first", "fair-tenants", "memory-admission"])
def test_results_are_stock(table, gallery, policy):
    db = table(threads="2", memory_limit="200MB")
    queries = [HEAVY, LIGHT] * 3
    expected = [db(sql) for sql in queries]
    db(f"CALL hook_attach('{gallery / policy}.bpf.o')")
    for _ in range(2):
        assert side_by_side(db, queries) == expected
    assert db.one("SELECT sum(calls) FROM hook_programs()") > 0
    assert db.one("SELECT sum(refused) FROM hook_programs()") == db.one(
        "SELECT coalesce(sum(map_extract_value(refusals, 'bound')), 0) FROM hook_points()"
    )


def attach(db, gallery, policy: str, params: str) -> Callable[[str], dict]:
    db(f"CALL hook_attach('{gallery / policy}.bpf.o', params := {params})")
    return lambda name: dict(db(f"SELECT key, value FROM hook_map_entries('{policy}/{name}')"))


def test_interactive_first_remembers_what_queries_cost(table, gallery):
    db = table(threads="1")
    entries = attach(db, gallery, "interactive-first", "{heavy_ms: 20}")
    db(LIGHT)
    light = entries("costs")
    db(HEAVY)
    heavy = {key: cost for key, cost in entries("costs").items() if key not in light}
    assert max(heavy.values()) > 20_000_000 > max(light.values())
    db(f"CALL hook_attach('{gallery / 'interactive-first'}.bpf.o', replace := true)")
    assert set(entries("costs")) >= set(heavy), "a reload keeps what was learned"


def test_memory_admission_learns_needs(table, gallery):
    db = table(threads="1", memory_limit="200MB")
    entries = attach(db, gallery, "memory-admission", "{budget: 32}")
    db(HEAVY)
    assert max(entries("needs").values()) > ROWS * 8
