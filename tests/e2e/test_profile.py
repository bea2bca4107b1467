"""DuckDB's profiles show what programs cost a query."""

import json
import re

import pytest

QUERY = "SELECT k, sum(v), count(*) FROM t GROUP BY k"


@pytest.fixture
def table(file_db):
    db = file_db(threads="2")
    db("CREATE TABLE t AS SELECT 'k' || i % 1007 AS k, hash(i) AS v FROM range(500000) r(i)")
    db("CHECKPOINT")
    return db


def text_profile(db) -> str:
    ((_, text),) = db(f"EXPLAIN ANALYZE {QUERY}")
    return text


def rows(text: str) -> dict[str, tuple[int, float]]:
    """Calls and seconds, by hook and of all."""
    found = re.findall(r"│ (\w+) +(\d+) calls +([\d.]+)s │", text)
    return {name: (int(calls), float(seconds)) for name, calls, seconds in found}


def json_profile(db) -> dict:
    ((_, text),) = db(f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERY}")
    return json.loads(text)


def test_the_text_shows_calls_and_time_by_hook(table, gallery):
    assert "Hooks" not in text_profile(table), "nothing is attached"
    table.set(gallery / "default_hash.bpf.o", gallery / "default_load.bpf.o", gallery / "default_unpin.bpf.o")
    before = {hook: table.point(hook)["calls"] for hook in ("load", "unpin")}
    text = text_profile(table)
    after = {hook: table.point(hook)["calls"] for hook in ("load", "unpin")}
    shown = rows(text)
    assert "╭─ Hooks ─" in text
    assert set(shown) == {"all", "hash", "load", "unpin"}
    for hook in before:
        assert 0 < shown[hook][0] <= after[hook] - before[hook]
    assert shown["all"][0] == sum(calls for hook, (calls, _) in shown.items() if hook != "all")
    assert 0 < shown["hash"][1] <= shown["all"][1] < 10
    # It is no statistic of the programs': that is off.
    assert table("SELECT DISTINCT timed_calls FROM hook_programs()") == [(0,)]
    table.set()
    assert "Hooks" not in text_profile(table)


def test_json_has_it_among_the_metrics(table, gallery):
    table.set(gallery / "default_hash.bpf.o", gallery / "default_unpin.bpf.o")
    hooks = json_profile(table)["hooks"]
    assert hooks["total_calls"] == hooks["hash"]["calls"] + hooks["unpin"]["calls"] > 0
    assert hooks["total_time"] == pytest.approx(hooks["hash"]["time"] + hooks["unpin"]["time"])
    assert 0 < hooks["total_time"] < 10
    table.set()
    assert "hooks" not in json_profile(table)


def test_profiles_in_files_have_all_of_it(table, gallery, tmp_path):
    table.set(gallery / "default_hash.bpf.o")
    path = tmp_path / "profile.json"
    table("PRAGMA enable_profiling = 'json'")
    table(f"SET profiling_output = '{path}'")
    table(QUERY)
    profile = json.loads(path.read_text())
    assert profile["hooks"]["hash"]["calls"] > 0
    assert profile["hooks"]["total_time"] > 0
    table("SELECT 1")
    assert json.loads(path.read_text())["hooks"]["total_calls"] < profile["hooks"]["total_calls"]


def test_another_connections_queries_do_not_count(table, gallery):
    table.set(gallery / "default_hash.bpf.o")
    other = table.connection.cursor()
    ((_, text),) = other.execute("EXPLAIN ANALYZE SELECT 42").fetchall()
    alone = rows(text)["all"][0]
    result = table.connection.cursor().execute("SELECT k FROM t GROUP BY k").fetchall()
    assert len(result) == 1007
    ((_, text),) = other.execute("EXPLAIN ANALYZE SELECT 42").fetchall()
    assert rows(text)["all"][0] == alone == 0
