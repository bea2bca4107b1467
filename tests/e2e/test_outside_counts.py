"""Nothing of a hook's traffic escapes: the hooks count what uprobes count on the untouched wheel, query by query.

The 22 queries of TPC-H at scale factor 0.01, one thread. Skipped, loudly, where bpf(2) or bpftrace is missing.
"""

import subprocess
from collections import Counter
from pathlib import Path

import duckdb
import pytest

import outside
from live import Variables
from official import CONFIG, ROOT

QUERIES = sorted((ROOT / "tpch" / "queries").glob("q*.sql"))
DEFAULTS = ["schedule_task", "execute_forever", "load", "update_used_memory", "allocate_new_block", "unpin"]
COUNTED = [hook for hook in DEFAULTS if hook != "update_used_memory"]


@pytest.fixture
def tpch() -> Path:
    path = ROOT / "target" / "bench" / "data" / "tpch-sf0.01.duckdb"
    if not path.exists():
        command = ["cargo", "xtask", "bench", "tpch", "--sf", "0.01", "--runs", "1", "--stock-only"]
        subprocess.run(command, cwd=ROOT, check=True)
    return path


@pytest.fixture
def counted(tpch, tmp_path) -> list[Counter[str]]:
    if reason := outside.missing():
        pytest.skip(f"counts from outside are NOT checked: {reason}")
    return outside.count(tpch, QUERIES, tmp_path)


def hooked(tpch: Path) -> duckdb.DuckDBPyConnection:
    """As the traced process: the same queries find the same blocks in memory."""
    connection = duckdb.connect(str(tpch), read_only=True, config={**outside.CONFIG, **CONFIG})
    connection.execute("LOAD duckbpf")
    return connection


def calls(connection: duckdb.DuckDBPyConnection) -> Counter[str]:
    return Counter(dict(connection.execute("SELECT hook, calls FROM hook_points()").fetchall()))


def per_query(connection: duckdb.DuckDBPyConnection) -> list[Counter[str]]:
    """Calls per query, without those that reading the counters makes: they are the same each time."""
    calls(connection)
    first = calls(connection)
    reading = calls(connection) - first
    counts = []
    for query in QUERIES:
        before = calls(connection)
        connection.execute(query.read_text()).fetchall()
        counts.append(calls(connection) - before - reading)
    return counts


def only(counts: list[Counter[str]], hooks: list[str]) -> dict[str, dict[str, int]]:
    return {query.stem: {hook: counter[hook] for hook in hooks} for query, counter in zip(QUERIES, counts, strict=True)}


def test_calls_are_those_counted_from_outside(counted, tpch, gallery):
    connection = hooked(tpch)
    objects = ", ".join(str(gallery / f"default_{hook}.bpf.o") for hook in DEFAULTS)
    connection.execute(f"SET hook_program = '{objects}'")
    inside = per_query(connection)
    assert only(inside, COUNTED) == only(counted, COUNTED)
    total = sum(inside, Counter())
    assert all(total[hook] > 100 for hook in COUNTED)
    # Every load's reader lets go again, and nothing else is unpinned.
    assert total["load"] == total["unpin"]


def test_hashed_vectors_are_those_counted_from_outside(counted, tpch, gallery):
    connection = hooked(tpch)
    connection.execute(f"SET hook_program = '{gallery / 'default_hash.bpf.o'}'")
    inside = per_query(connection)
    assert only(inside, ["hash"]) == only(counted, ["hash"])
    assert sum(inside, Counter())["hash"] > 100


def test_memory_updates_are_those_counted_from_outside(counted, tpch, programs):
    connection = hooked(tpch)
    connection.execute(f"SET hook_program = '{programs / 'live.bpf.o'}'")
    connection.execute(QUERIES[0].read_text()).fetchall()
    connection.close()
    connection = hooked(tpch)
    live = Variables()
    inside = []
    for query in QUERIES:
        before = live.read().small_memory_updates
        connection.execute(query.read_text()).fetchall()
        inside.append(Counter(update_used_memory=live.read().small_memory_updates - before))
    assert only(inside, ["update_used_memory"]) == only(counted, ["update_used_memory"])
