"""Decisions of the storage hooks: SQL in, effect out; and the bounds that hold against the worst program."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import tables
from tables import ROWS, SCAN

from official import CONFIG

SPILL = "SELECT count(*), sum(v), sum(w) FROM (SELECT k, v, w FROM t ORDER BY v, w)"


@pytest.fixture
def table(file_db):
    return tables.cold(file_db)


def wait_until(holds: Callable[[], bool]) -> None:
    """DuckDB offers nothing to wait on for what happens on a thread of the hook's own: looks again, for 20 s at most."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- evict ---------------------------------------------------------------------------------------------------------


def test_evict_skip_spares_blocks(file_db, bpf):
    db = file_db(threads="1")
    for name, rows in (("spared", 500_000), ("other", 6_000_000)):
        db(f"CREATE TABLE {name} AS SELECT hash(i) AS v, hash(i + 1) AS w FROM range({rows}) r(i)")
        db("CHECKPOINT")
    lowest, highest = db(
        "SELECT min(block_id), max(block_id) FROM pragma_storage_info('spared') WHERE persistent AND block_id >= 0"
    )[0]
    db.connection.close()

    def misses_after_pressure(*programs) -> int:
        db = file_db(threads="1", memory_limit="60MB")
        db.set(bpf(COUNT_MISSES % (lowest, highest), "count_misses"), *programs)
        db("SELECT sum(v), sum(w) FROM spared")
        for _ in range(2):
            db("SELECT sum(v), sum(w) FROM other")
        before = db.point("load")["refusals"].get("out_of_range", 0)
        db("SELECT sum(v), sum(w) FROM spared")
        misses = db.point("load")["refusals"].get("out_of_range", 0) - before
        db.set()
        db.connection.close()
        return misses

    stock = misses_after_pressure()
    spared = misses_after_pressure(bpf(SPARE % (lowest, highest), "spare"))
    assert stock > 10
    assert spared <= stock // 4


COUNT_MISSES = """
SEC("duckdb/load") __u64 count_misses(struct duckbpf_load_ctx *ctx)
{
    return !ctx->hit && ctx->block_id >= %dLL && ctx->block_id <= %dLL ? DUCKBPF_LOAD(DUCKBPF_HINT_COUNT) : 0;
}
"""
SPARE = """
SEC("duckdb/evict") __u64 spare(struct duckbpf_evict_ctx *ctx)
{
    return ctx->block_id >= %dLL && ctx->block_id <= %dLL ? DUCKBPF_EVICT_SKIP : DUCKBPF_EVICT_NOW;
}
"""


def test_a_program_that_spares_all_fails_no_allocation(table, bpf):
    stock = table(memory_limit="40MB")
    expected = stock(SCAN), stock(SPILL)
    stock.connection.close()
    db = table(memory_limit="40MB")
    db.set(bpf('SEC("duckdb/evict") __u64 never(void *ctx) { return DUCKBPF_EVICT_SKIP; }'))
    for _ in range(2):
        assert (db(SCAN), db(SPILL)) == expected
        assert sum(used for (used,) in db("SELECT memory_usage_bytes FROM duckdb_memory()")) <= 40_000_000
    point = db.point("evict")
    clamped = point["refusals"]["clamped"]
    assert clamped > 10
    # Each that is evicted against its will comes after 64 that were passed over.
    assert point["applied"] >= 64 * clamped
    assert point["calls"] == point["applied"] + clamped


def test_evict_knows_the_file_once_a_block_has_joined_a_queue(table, bpf):
    db = table(memory_limit="40MB")
    db.set(bpf(FILES, "files"))
    db(SCAN)
    db(SCAN)
    evicted, known = (db.one(f"SELECT value FROM hook_map_entries('counts') WHERE key = {key}") for key in (0, 1))
    assert known > 10
    assert known == evicted
    assert db.point("evict")["refused"] == 0


FILES = """
LICENSE("MIT");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");
struct {
    __uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
    __uint(max_entries, 4096);
    __type(value, __u64);
} loaded SEC(".maps");
static __always_inline void count(__u32 key)
{
    __u64 *value = bpf_map_lookup_elem(&counts, &key);
    if (value)
        __sync_fetch_and_add(value, 1);
}
SEC("duckdb/load") __u64 load(struct duckbpf_load_ctx *ctx)
{
    duckbpf_block_storage_get(&loaded, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    return 0;
}
SEC("duckdb/evict") __u64 evict(struct duckbpf_evict_ctx *ctx)
{
    count(0);
    if (duckbpf_block_storage_get(&loaded, ctx, 0, 0))
        count(1);
    return 0;
}
"""


# --- queue_insert --------------------------------------------------------------------------------------------------


def managed_queues(db) -> list[int]:
    """How many blocks joined each of the queues of temporary blocks, in the order in which they are searched."""
    return [
        joined
        for (joined,) in db(
            "SELECT total_insertions FROM duckdb_eviction_queues() WHERE queue_type LIKE 'MANAGED%' ORDER BY queue_index"
        )
    ]


@pytest.mark.parametrize("queue", [0, 3, 5])
def test_temporary_blocks_join_the_chosen_queue(table, bpf, queue):
    db = table(memory_limit="60MB")
    expected = db(SPILL)
    before = managed_queues(db)
    db.set(bpf(f'SEC("duckdb/queue_insert") __u64 f(struct duckbpf_queue_insert_ctx *ctx) {{ {CHOOSE % queue} }}'))
    assert db(SPILL) == expected
    joined = [now - then for now, then in zip(managed_queues(db), before, strict=True)]
    point = db.point("queue_insert")
    assert joined[queue] > 10
    assert point["applied"] > 10
    assert sum(joined) - joined[queue] <= point["refusals"].get("wrong_site", 0)


CHOOSE = "return ctx->queues > 1 ? DUCKBPF_QUEUE_INSERT(%d) : DUCKBPF_QUEUE_INSERT(0);"


def test_no_block_changes_its_queue(table, bpf):
    """The worst program: another queue each time, and queues that do not exist."""
    db = table(memory_limit="40MB")
    expected = db(SCAN), db(SPILL)
    db.set(
        bpf(
            """
            static __u64 n;
            SEC("duckdb/queue_insert") __u64 f(void *ctx) { return DUCKBPF_QUEUE_INSERT(__sync_fetch_and_add(&n, 1) % 9); }
            """
        )
    )
    for _ in range(2):
        assert (db(SCAN), db(SPILL)) == expected
    refusals = db.point("queue_insert")["refusals"]
    assert refusals["out_of_range"] > 10
    # Dead entries are counted where their blocks are: what is dead was queued.
    for size, dead in db("SELECT approximate_size, dead_nodes FROM duckdb_eviction_queues()"):
        assert 0 <= dead <= size


# --- checkpoint ----------------------------------------------------------------------------------------------------


def wal_bytes(db) -> int:
    path = Path(db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL") + ".wal")
    return path.stat().st_size if path.exists() else 0


def commit_megabytes(db, n: int) -> int:
    """Commits of some 1 MB each; returns the longest log."""
    longest = 0
    for _ in range(n):
        db("INSERT INTO grows SELECT i, hash(i), hash(i + 1) FROM range(40000) r(i)")
        longest = max(longest, wal_bytes(db))
    return longest


@pytest.fixture
def grows(file_db):
    db = file_db(threads="1")
    db("CREATE TABLE grows(i BIGINT, v UBIGINT, w UBIGINT)")
    db("SET checkpoint_threshold = '4MB'")
    return db


def test_commits_put_a_checkpoint_off_up_to_the_bound(grows, bpf):
    stock = commit_megabytes(grows, 12)
    assert stock < 6_000_000
    grows.set(bpf('SEC("duckdb/checkpoint") __u64 f(void *c) { return DUCKBPF_CHECKPOINT_DEFER; }'))
    longest = commit_megabytes(grows, 60)
    # Four times the threshold, and what one commit adds.
    assert 10_000_000 < longest < 19_000_000
    assert grows.point("checkpoint")["refusals"]["clamped"] >= 1
    grows.set()
    rows = grows("SELECT count(*), sum(v) FROM grows")
    grows.connection.close()
    assert rows[0][0] == 72 * 40_000


def test_an_idle_moment_makes_a_checkpoint(grows, bpf):
    grows.set(
        bpf(
            """
            SEC("duckdb/checkpoint") __u64 f(struct duckbpf_checkpoint_ctx *ctx)
            {
                return ctx->site == DUCKBPF_CHECKPOINT_IDLE && ctx->idle_ns > 20000000 ? DUCKBPF_CHECKPOINT_FORCE : 0;
            }
            """
        )
    )
    commit_megabytes(grows, 2)
    wait_until(lambda: wal_bytes(grows) == 0)
    assert grows.point("checkpoint")["applied"] >= 1
    assert grows.one("SELECT count(*) FROM grows") == 80_000


def test_a_commit_during_a_checkpoint_is_checkpointed_too(grows, bpf):
    forces = 'SEC("duckdb/checkpoint") __u64 f(struct duckbpf_checkpoint_ctx *ctx) { return %s; }'
    grows.set(bpf(forces % "ctx->site == DUCKBPF_CHECKPOINT_IDLE ? DUCKBPF_CHECKPOINT_FORCE : 0"))
    for round_ in range(20):
        commit_megabytes(grows, 1)
        # The checkpoint of what was just written begins at the next tick, and takes some milliseconds.
        time.sleep(round_ / 1000)
        grows("INSERT INTO grows VALUES (0, 0, 0)")
        wait_until(lambda: wal_bytes(grows) == 0)
    assert grows.one("SELECT count(*) FROM grows") == 20 * 40_001


def test_what_is_put_off_survives_a_kill(tmp_path, bpf):
    program = bpf('SEC("duckdb/checkpoint") __u64 f(void *c) { return DUCKBPF_CHECKPOINT_DEFER; }')
    path = tmp_path / "killed.duckdb"
    script = f"""
import os, signal, duckdb
connection = duckdb.connect({str(path)!r}, config={{**{CONFIG!r}, "threads": "1"}})
connection.execute("LOAD duckbpf")
connection.execute("SET hook_program = '{program}'")
connection.execute("CREATE TABLE t(i BIGINT, v UBIGINT)")
connection.execute("SET checkpoint_threshold = '1MB'")
for n in range(40):
    connection.execute(f"INSERT INTO t SELECT i, hash(i) FROM range(5000) r(i)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    with duckdb.connect(str(path)) as connection:
        assert connection.execute(
            "SELECT count(*), sum(v) = 40 * (SELECT sum(hash(i)) FROM range(5000) r(i)) FROM t"
        ).fetchall() == [(200_000, True)]


def test_the_worst_checkpoint_program(grows, bpf):
    """Always says force: refused at commits, an attempt at idle moments, nothing is lost and nobody hangs."""
    grows.set(bpf('SEC("duckdb/checkpoint") __u64 f(void *c) { return DUCKBPF_CHECKPOINT_FORCE; }'))
    commit_megabytes(grows, 30)
    assert grows.one("SELECT count(*) FROM grows") == 30 * 40_000
    assert grows.point("checkpoint")["refusals"]["wrong_site"] > 0


def test_databases_in_memory_have_no_checkpoints_to_decide(db, bpf):
    db.set(bpf('SEC("duckdb/checkpoint") __u64 f(void *c) { return DUCKBPF_CHECKPOINT_DEFER; }'))
    db("SET checkpoint_threshold = '1MB'")
    db("CREATE TABLE t AS SELECT i, hash(i) FROM range(1000000) r(i)")
    db("INSERT INTO t SELECT i, hash(i) FROM range(1000000) r(i)")
    assert db.point("checkpoint")["calls"] == 0


# --- prefetch ------------------------------------------------------------------------------------------------------

READS = """
LICENSE("MIT");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} reads SEC(".maps");
static __always_inline void add(__u32 key, __u64 n)
{
    __u64 *value = bpf_map_lookup_elem(&reads, &key);
    if (value)
        __sync_fetch_and_add(value, n);
}
SEC("duckdb/file_read") __u64 read(struct duckbpf_file_read_ctx *ctx)
{
    add(0, 1);
    add(1, ctx->bytes);
    return 0;
}
"""


def reads_of_a_scan(db, program) -> tuple[int, int]:
    """How often a scan reads, and how many bytes."""
    db.set(program)
    db(SCAN)
    reads, volume = (db.one(f"SELECT value FROM hook_map_entries('reads') WHERE key = {key}") for key in (0, 1))
    db.set()
    db("SET memory_limit = '20MB'")
    db("RESET memory_limit")
    return reads, volume


def test_reading_ahead_takes_fewer_and_longer_reads(table, bpf):
    db = table(threads="2")
    expected = db(SCAN)
    db.connection.close()
    decide = 'SEC("duckdb/prefetch") __u64 decide(void *c) {{ return DUCKBPF_PREFETCH({}); }}'
    plans = {"never": "0, 0, 0", "ahead": "1, 0, 0", "short": "1, 4, 512", "worst": "1, 4095, 16777215"}
    found = {}
    for name, plan in plans.items():
        db = table(threads="2")
        found[name] = reads_of_a_scan(db, bpf(READS + decide.format(plan), name))
        assert db(SCAN) == expected, name
        if name == "worst":
            assert db.point("prefetch")["refusals"]["clamped"] > 0
        db.connection.close()
    assert found["ahead"][0] < 0.7 * found["never"][0]
    assert found["ahead"][0] <= found["short"][0] < found["never"][0]
    # What is read ahead is what the scan needs, no more.
    assert found["ahead"][1] < 1.1 * found["never"][1]


def test_reading_ahead_keeps_the_memory_limit(table, bpf):
    db = table(threads="2", memory_limit="30MB")
    expected = db(SCAN)
    db.set(bpf('SEC("duckdb/prefetch") __u64 f(void *c) { return DUCKBPF_PREFETCH(1, 4095, 32768); }'))
    for _ in range(3):
        assert db(SCAN) == expected
        assert sum(used for (used,) in db("SELECT memory_usage_bytes FROM duckdb_memory()")) <= 31_000_000


# --- file_read -----------------------------------------------------------------------------------------------------


def test_file_read_tells_path_bytes_and_time(table, bpf):
    db = table()
    path = db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")
    text = READS.replace("add(1, ctx->bytes)", "add(1, ctx->duration_ns)").replace(
        "add(0, 1);", "if (ctx->path_id != %sULL) return 0; add(0, 1);"
    )
    number = db.one(f"SELECT (md5_number('{path}') % 18446744073709551616)::UBIGINT")
    db.set(bpf(text % number))
    db("SET debug_local_file_system_delay_ms = 1")
    db(SCAN)
    db("SET debug_local_file_system_delay_ms = 0")
    reads, nanoseconds = (db.one(f"SELECT value FROM hook_map_entries('reads') WHERE key = {key}") for key in (0, 1))
    assert reads > 50
    assert nanoseconds >= reads * 1_000_000
    assert db.point("file_read")["applied"] == 0


# --- log -----------------------------------------------------------------------------------------------------------


def logged(db, marker: str) -> list[tuple[str, str]]:
    return db(
        f"SELECT type, log_level FROM duckdb_logs WHERE type = 'QueryLog' AND message LIKE '%{marker}%' AND message NOT LIKE '%duckdb_logs%'"
    )


@pytest.mark.parametrize(
    ("decision", "level"),
    [
        ("DUCKBPF_LOG_KEEP", "INFO"),
        ("DUCKBPF_LOG_DROPPED", None),
        ("DUCKBPF_LOG_RAISE(50)", "ERROR"),
        ("DUCKBPF_LOG_RAISE(10)", "INFO"),
        ("DUCKBPF_LOG_RAISE(55)", "INFO"),
    ],
)
def test_log_keeps_drops_and_raises(db, bpf, decision, level):
    db("CALL enable_logging('QueryLog')")
    number = db.one("SELECT (md5_number('QueryLog') % 18446744073709551616)::UBIGINT")
    db.set(
        bpf(
            f"""
            SEC("duckdb/log") __u64 f(struct duckbpf_log_ctx *ctx)
            {{
                return ctx->type_id == {number}ULL && ctx->message_bytes > 5 ? {decision} : 0;
            }}
            """
        )
    )
    db("SELECT 'looked for'")
    assert logged(db, "looked for") == ([("QueryLog", level)] if level else [])
    refused = decision in ("DUCKBPF_LOG_RAISE(10)", "DUCKBPF_LOG_RAISE(55)")
    assert bool(db.point("log")["refused"]) == refused


def test_a_program_that_prints_a_line_for_each_entry_ends(db, bpf):
    db("CALL enable_logging(level := 'trace')")
    db.set(
        bpf(
            """
            LICENSE("MIT");
            SEC("duckdb/log") __u64 f(struct duckbpf_log_ctx *ctx)
            {
                bpf_printk("an entry of %llu bytes", ctx->message_bytes);
                return 0;
            }
            """
        )
    )
    for n in range(5):
        db(f"SELECT {n}")
    lines = db.one("SELECT count(*) FROM duckdb_logs WHERE message LIKE 'an entry of %'")
    assert 0 < lines <= db.point("log")["calls"]


# --- compression ---------------------------------------------------------------------------------------------------

METHODS = "SELECT DISTINCT compression FROM pragma_storage_info('%s') WHERE column_name = '%s' AND segment_type = '%s'"


def test_weights_choose_among_the_methods_that_fit(file_db, bpf):
    db = file_db(threads="1")
    number = db.one("SELECT (md5_number('main.hot') % 18446744073709551616)::UBIGINT")
    db.set(
        bpf(
            f"""
            #define UNCOMPRESSED 1
            SEC("duckdb/compression") __u64 f(struct duckbpf_compression_ctx *ctx)
            {{
                if (ctx->table_id != {number}ULL || ctx->column != 1)
                    return DUCKBPF_COMPRESSION(DUCKBPF_COMPRESSION_ONE);
                return DUCKBPF_COMPRESSION(ctx->method == UNCOMPRESSED ? 1 : 65535);
            }}
            """
        )
    )
    for name in ("hot", "cold"):
        db(f"CREATE TABLE {name} AS SELECT i % 100 AS a, i % 1000 AS b FROM range(500000) r(i)")
        db("CHECKPOINT")
    methods = {(name, column): db(METHODS % (name, column, "BIGINT")) for name in ("hot", "cold") for column in "ab"}
    assert methods["hot", "b"] == [("Uncompressed",)]
    assert methods["hot", "a"] == methods["cold", "a"] != [("Uncompressed",)]
    assert methods["cold", "b"] != [("Uncompressed",)]
    assert db.point("compression")["refused"] == 0
    rows = db("SELECT sum(a), sum(b) FROM hot")
    path = db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")
    db.set()
    db.connection.close()
    # Stock reads what was written.
    with duckdb.connect(path) as stock:
        assert stock.execute("SELECT sum(a), sum(b) FROM hot").fetchall() == rows


def test_the_worst_weights_write_what_stock_reads(file_db, bpf):
    db = file_db(threads="1")
    db.set(
        bpf(
            """
            static __u64 n;
            SEC("duckdb/compression") __u64 f(void *c) { return DUCKBPF_COMPRESSION(__sync_fetch_and_add(&n, 7919) % 65536); }
            """
        )
    )
    db(
        "CREATE TABLE t AS SELECT i, hash(i) AS h, i::VARCHAR AS s, i % 7 = 0 AS b, (i / 3.0)::DOUBLE AS d, [i, i + 1] AS l, "
        "{'x': i, 'y': 'z' || i % 10} AS r FROM range(300000) r(i)"
    )
    db("CHECKPOINT")
    look = "SELECT sum(i), sum(h), max(s), sum(b::INT), sum(d), sum(l[2]), max(r.y) FROM t"
    expected = db(look)
    path = db.one("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")
    db.set()
    db.connection.close()
    with duckdb.connect(path) as stock:
        assert stock.execute(look).fetchall() == expected


# --- scan_begin ----------------------------------------------------------------------------------------------------


def test_scan_begin_tells_table_and_gives_its_blocks_a_hint(table, bpf):
    db = table()
    number = db.one("SELECT (md5_number('main.t') % 18446744073709551616)::UBIGINT")
    db.set(
        bpf(
            f"""
            SEC("duckdb/scan_begin") __u64 f(struct duckbpf_scan_begin_ctx *ctx)
            {{
                if (ctx->table_id != {number}ULL)
                    return 0;
                if (ctx->rows != {ROWS} || ctx->table_columns != 3)
                    return DUCKBPF_SCAN_BEGIN(DUCKBPF_HINT_COUNT);
                return DUCKBPF_SCAN_BEGIN(ctx->columns == 2 ? DUCKBPF_HINT_ONCE : DUCKBPF_HINT_NORMAL);
            }}
            """
        )
    )
    expected = db(SCAN)
    assert db.memory("BASE_TABLE") < 2_000_000
    db("SELECT sum(v) FROM t")
    one_column = db.memory("BASE_TABLE")
    assert one_column > 4_000_000
    point = db.point("scan_begin")
    assert point["refused"] == 0
    assert point["applied"] >= 2
    db.set()
    assert db(SCAN) == expected
    assert db.memory("BASE_TABLE") > 20_000_000


def test_the_worst_hints_of_scans(table, bpf):
    db = table(memory_limit="40MB", threads="2")
    expected = db(SCAN), db(SPILL)
    db.set(
        bpf(
            """
            static __u64 n;
            SEC("duckdb/scan_begin") __u64 f(void *c) { return DUCKBPF_SCAN_BEGIN(__sync_fetch_and_add(&n, 1) % 6); }
            """
        )
    )
    for _ in range(4):
        assert (db(SCAN), db(SPILL)) == expected
        assert sum(used for (used,) in db("SELECT memory_usage_bytes FROM duckdb_memory()")) <= 41_000_000
