"""Policies of the gallery: they learn, change no result, and gain where a count can show it. How much time they gain is measured by `cargo xtask bench
policy`."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import tables

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


def decision(db, policy: str, hook: str, **context) -> int:
    """What an attached policy answers to a context, with what it has learned."""
    return db.one(f"SELECT result FROM hook_run('{policy}', hook := '{hook}', context := '{json.dumps(context)}')")


#: Bits of run_task's decisions, and of query_begin's.
HELD = DELAYED = 2


def level(decided: int) -> int:
    return decided >> 8 & 0xFF


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


def test_interactive_first_holds_long_queries_for_short_ones(table, gallery):
    db = table(threads="1")
    entries = attach(db, gallery, "interactive-first", "{heavy_ms: 20}")
    db(HEAVY)
    costs = entries("costs")
    heavy = max(costs, key=lambda key: costs[key])

    def run(**context) -> int:
        return decision(db, "interactive-first", "run_task", **context)

    assert level(decision(db, "interactive-first", "query_begin", fingerprint=heavy)) == 7
    alone = run(fingerprint=heavy)
    assert level(alone) == 7 and not alone & HELD
    for others in ({"running[6]": 1}, {"waiting[0]": 1}):
        assert run(fingerprint=heavy, **others) & HELD
    # Its own slots, from before it was long, are in nobody's way.
    assert not run(fingerprint=heavy, klass=6, threads=1, **{"running[6]": 1}) & HELD
    # Longer ones do not matter to one that nobody knows, until it has used more.
    assert not run(fingerprint=1, **{"running[7]": 2}) & HELD
    assert level(run(fingerprint=1)) < level(run(fingerprint=1, cpu_ns=4 * 15_000_000)) < 7
    assert level(run(fingerprint=1, cpu_ns=4 * 25_000_000)) == 7


def test_interactive_first_is_told_by_tag(table, gallery):
    db = table(threads="1")
    attach(db, gallery, "interactive-first", "{heavy_ms: 20}")
    for tag, expected in (("interactive", 0), ("batch", 7), ("nightly", 6)):
        db(f"SET hook_tag = '{tag}'")
        number = db.one(f"SELECT tag FROM hook_tags() WHERE text = '{tag}'")
        decided = decision(
            db, "interactive-first", "run_task", origin={"tag": number}, fingerprint=number, cpu_ns=60_000_000
        )
        assert level(decided) == expected, tag
    db(f"CALL hook_map_update('told', {number}, 3)")
    assert level(decision(db, "interactive-first", "query_begin", origin={"tag": number})) == 2


def test_interactive_first_learns_what_is_long(table, gallery):
    db = table(threads="1")
    entries = attach(db, gallery, "interactive-first", "{slack: 3}")
    before = decision(db, "interactive-first", "run_task", cpu_ns=4 * 900_000_000)
    assert level(before) == 6
    for _ in range(40):
        db(HEAVY)
    (mean,) = entries("mean_cost").values()
    cost = max(entries("costs").values()) / 1000
    assert cost < mean < 4_000_000, "it moves from its beginning to the queries that there are"


def test_fair_tenants_hold_who_is_ahead(table, gallery):
    db = table(threads="2")
    entries = attach(db, gallery, "fair-tenants", "{quantum_ns: 20000000}")

    def ask(tag: int, **context) -> int:
        return decision(
            db, "fair-tenants", "run_task", origin={"tag": tag, "query_id": tag, "connection_id": tag}, **context
        )

    # Nobody else is there: no limit.
    first = ask(101, cpu_ns=1_000_000_000)
    assert not first & HELD and first >> 16 & 0xFF == 0
    tenant = level(first)
    other = level(ask(102, waited_ns=1))
    assert other != tenant
    # The other has had nothing, and waits.
    crowd = {f"running[{tenant}]": 2, f"waiting[{other}]": 1}
    assert ask(101, cpu_ns=1_100_000_000, **crowd) & HELD
    behind = ask(102, waited_ns=1, **{f"running[{tenant}]": 2})
    assert not behind & HELD, "who is behind gets a thread though all cores are taken"
    assert ask(101, cpu_ns=1_100_000_000, **{f"running[{other}]": 2}) & HELD, "who is ahead does not"
    # Who comes has saved nothing while it idled.
    late = level(decision(db, "fair-tenants", "query_begin", origin={"tag": 103}))
    shares = entries("shares")[0]
    assert shares["given_ns"][late] == shares["floor_ns"] > 0
    assert shares["used_ns"][late] == 0 and shares["used_ns"][tenant] >= 1_100_000_000


def test_memory_admission_learns_needs(table, gallery):
    db = table(threads="1", memory_limit="200MB")
    entries = attach(db, gallery, "memory-admission", "{budget: 32}")
    db(HEAVY)
    assert max(entries("needs").values()) > ROWS * 8


def test_memory_admission_lets_in_what_fits(table, gallery):
    db = table(threads="1", memory_limit="200MB")
    entries = attach(db, gallery, "memory-admission", "{budget: 32}")
    db(HEAVY)
    needs = entries("needs")
    large = max(needs, key=lambda key: needs[key])

    def ask(**context) -> int:
        return decision(db, "memory-admission", "query_begin", fingerprint=large, **context)

    exactly = needs[large] // 2
    assert level(ask(max_memory=needs[large])) == 6
    assert level(ask(max_memory=100 * needs[large])) == 0
    assert not ask(max_memory=exactly) & DELAYED, "whoever is alone runs"
    assert ask(max_memory=exactly, **{"admitted[6]": 1}) & DELAYED
    assert not ask(max_memory=10 * needs[large], **{"admitted[1]": 1}) & DELAYED
    # Who waited for as long as anybody may is in, and runs behind the others.
    overdue = ask(max_memory=exactly, waited_ns=20_000_000_000, **{"admitted[6]": 1})
    assert not overdue & DELAYED and level(overdue) == 7
    run = {"klass": 7, "threads": 1}
    assert decision(db, "memory-admission", "run_task", **run, **{"running[7]": 1, "running[6]": 2}) & HELD
    assert not decision(db, "memory-admission", "run_task", **run, **{"running[7]": 1}) & HELD


# --- what is read --------------------------------------------------------------------------------------------------

LOOKUP = "SELECT sum(v), sum(w) FROM t WHERE rowid < 240000"
COUNT_READS = 'SEC("duckdb/file_read") __u64 f(void *c) { return 0; }'


def reads(db, sql: str) -> int:
    """How often a query reads a file."""
    before = db.point("file_read")["calls"]
    db(sql)
    return db.point("file_read")["calls"] - before


#: Of a hundred blocks fewer may stay than a search for memory passes over.
@pytest.mark.parametrize(
    ("policy", "params"), [("scan-resistant", "{stay_percent: 40}"), ("s3-fifo", "{small_percent: 10}")]
)
def test_scans_leave_what_look_ups_want(file_db, gallery, bpf, policy, params):
    open_with = tables.cold(file_db)

    def reads_of_lookups(is_attached: bool) -> int:
        db = open_with(memory_limit="25MB")
        db.set(bpf(COUNT_READS, "count_reads"))
        if is_attached:
            attach(db, gallery, policy, params)
        results, needed = set(), 0
        for turn in range(8):
            found = reads(db, LOOKUP)
            needed += found if turn > 2 else 0
            for _ in range(2):
                results.add(tuple(db(LOOKUP)[0]))
            results.add(tuple(db(tables.SCAN)[0]))
        assert len(results) == 2
        db.set()
        db.connection.close()
        return needed

    stock, spared = reads_of_lookups(False), reads_of_lookups(True)
    assert stock > 20
    assert spared <= stock // 2


def test_read_ahead_reads_less_often_where_reads_wait(file_db, gallery, bpf):
    open_with = tables.cold(file_db)

    def reads_of_a_scan(program: Path, delay_ms: int) -> int:
        db = open_with(threads="2")
        db.set(program)
        db(f"SET debug_local_file_system_delay_ms = {delay_ms}")
        db(LOOKUP)
        counted = reads(db, "SELECT sum(v), sum(w), sum(k) FROM t WHERE rowid > 500000")
        db("SET debug_local_file_system_delay_ms = 0")
        db.set()
        db.connection.close()
        return counted

    stock = reads_of_a_scan(bpf(COUNT_READS), 2)
    assert reads_of_a_scan(gallery / "read-ahead.bpf.o", 2) < 0.7 * stock


def test_calm_checkpoints_wait_for_a_pause(file_db, gallery):
    db = file_db(threads="1")
    db("CREATE TABLE grows(i BIGINT, v UBIGINT)")
    db("SET checkpoint_threshold = '1MB'")
    entries = attach(db, gallery, "calm-checkpoints", "{idle_us: 400000}")
    wal = Path(db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL") + ".wal")
    for _ in range(5):
        db("INSERT INTO grows SELECT i, hash(i) FROM range(30000) r(i)")
    assert wal.stat().st_size > 1_500_000, "stock makes a checkpoint above 1 MB"
    deadline = time.monotonic() + 20
    while not sum(entries("checkpoint_times").values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not wal.exists() or wal.stat().st_size == 0
    assert sum(entries("checkpoint_times").values()) == 1
    assert db.one("SELECT count(*) FROM grows") == 150_000


def test_hot_light_writes_small_what_nobody_scans(file_db, gallery):
    lines = (
        "SELECT i, format('request={:x} user={} path=/api/v1/{}/{} took={}us agent=Mozilla/5.0 (X11; Linux x86_64) region=eu-{}', hash(i), "
        "hash(i * 7) % 50000, ['orders', 'items'][(1 + hash(i) % 2)::INT], hash(i * 5) % 1000000, hash(i * 13) % 100000, hash(i * 17) % 9) AS s"
    )
    sizes, found = {}, set()
    for name in ("stock", "cold", "hot"):
        db = file_db(f"{name}.duckdb", storage_compatibility_version="latest", threads="1")
        path = db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")
        if name != "stock":
            attach(db, gallery, "hot-light", "{hot_scans: 5}")
        db(f"CREATE TABLE t AS {lines} FROM range(1000) r(i)")
        for _ in range(10 if name == "hot" else 0):
            db("SELECT max(s) FROM t")
        db(f"CREATE OR REPLACE TABLE t AS {lines} FROM range(300000) r(i)")
        db("CHECKPOINT")
        sizes[name] = db.one(
            "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
        )
        db.set()
        db.connection.close()
        with duckdb.connect(path) as untouched:
            found.add(untouched.execute("SELECT count(*), max(s), sum(length(s)) FROM t").fetchone())
    assert len(found) == 1
    assert 1.1 * sizes["cold"] < sizes["stock"] < sizes["hot"]


@pytest.mark.parametrize("policy", ["wy-hash", "crc-hash"])
def test_hashes_of_integers_change_no_result(db, gallery, policy):
    db(
        "CREATE TABLE t AS SELECT i // 3 AS k, (i % 1000) << 32 AS strided, -i AS negative, i % 100 AS small FROM range(300000) r(i)"
    )
    queries = [
        "SELECT count(*), sum(a.small + b.small) FROM t a JOIN t b ON a.k = b.k",
        "SELECT count(*), sum(n) FROM (SELECT strided, negative % 1000, count(*) AS n FROM t GROUP BY ALL)",
        "SELECT count(*), sum(n), max(n) FROM (SELECT small::TINYINT, k::HUGEINT % 977, count(*) AS n FROM t GROUP BY ALL)",
        "SELECT count(*) FROM t a WHERE strided::UBIGINT IN (SELECT strided FROM t WHERE small = 7)",
    ]
    expected = [db(sql) for sql in queries]
    db.set(gallery / f"{policy}.bpf.o")
    assert [db(sql) for sql in queries] == expected
    assert db.point("hash")["calls"] > 100


def test_watchtower_sees_reads_tasks_spill_and_errors(file_db, gallery):
    tables.cold(file_db)
    db = file_db(threads="2", memory_limit="60MB")
    attach(db, gallery, "watchtower", "{sample: 1}")
    expected = db(tables.SCAN)
    spilled = "SELECT count(*), sum(v) FROM (SELECT k, v, w FROM t ORDER BY v, w)"
    db(spilled)
    with pytest.raises(duckdb.ConversionException):
        db("SELECT (v::VARCHAR || 'x')::INTEGER FROM t")
    histograms = dict(
        db("SELECT key.what, sum(list_sum(value)) FROM hook_map_entries('watchtower/watch_histograms') GROUP BY 1")
    )
    file_read, read_bytes, pin_wait, query, spill = 0, 2, 3, 5, 6
    assert {file_read, read_bytes, pin_wait, query, spill} <= set(histograms)
    assert histograms[pin_wait] <= histograms[file_read] == histograms[read_bytes]
    conversion = 2
    assert dict(db("SELECT key, value FROM hook_map_entries('watchtower/watch_errors')"))[conversion] == 1
    of_queries = [row for (row,) in db("SELECT value FROM hook_map_entries('watchtower/watch_queries')")]
    assert max(row["spill_bytes"] for row in of_queries) > 0
    assert max(row["reads"] for row in of_queries) > 50
    steps = dict(db("SELECT what, count(*) FROM hook_events('watchtower/watch_events') GROUP BY 1"))
    read, task, block, end = 0, 3, 4, 5
    assert steps[read] > 50 and steps[task] > 2 and steps[block] > 50 and steps[end] >= 2
    assert db(tables.SCAN) == expected
