"""Every decision of every hook changes what DuckDB does: SQL in, effect out."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
import tables
from tables import SCAN

from live import Variables

AGGREGATE = "SELECT k, count(*), sum(v) FROM t GROUP BY k"


@pytest.fixture
def table(file_db):
    return tables.cold(file_db)


def base_table_after_scan(db) -> int:
    db(SCAN)
    return db.memory("BASE_TABLE")


def blocks_queued(db) -> int:
    return db.one("SELECT total_insertions FROM duckdb_eviction_queues() WHERE queue_type LIKE 'BLOCK%'")


# --- unpin ---------------------------------------------------------------------------------------------------------


def test_unpin_unload_frees_blocks_at_once(table, gallery):
    db = table()
    assert base_table_after_scan(db) > 20_000_000
    expected = db(SCAN)
    db.set(gallery / "unpin_drop_scanned.bpf.o")
    assert db(SCAN) == expected
    assert db.memory("BASE_TABLE") < 1_000_000
    point = db.point("unpin")
    assert point["applied"] == point["calls"] > 0
    db("RESET hook_program")
    assert db(SCAN) == expected
    assert db.memory("BASE_TABLE") > 20_000_000


def test_unpin_queue_is_what_stock_does(table, gallery):
    db = table()
    stock = base_table_after_scan(db), blocks_queued(db)
    db.connection.close()
    db = table()
    db.set(gallery / "default_unpin.bpf.o")
    assert (base_table_after_scan(db), blocks_queued(db)) == stock
    point = db.point("unpin")
    assert point["applied"] == point["calls"] > 0 and point["refused"] == 0


def test_unpin_purge_sweeps_the_queue(table, programs):
    """Stock looks at every 4,096th insertion whether the queue has 32,768 entries, the program at each."""
    db = table()

    def queue() -> tuple[int, int]:
        ((size, insertions),) = db(
            "SELECT approximate_size, total_insertions FROM duckdb_eviction_queues() WHERE queue_type LIKE 'BLOCK%'"
        )
        return size, insertions

    def longest() -> int:
        (largest, begin) = queue()
        while True:
            db("SELECT sum(v), sum(w), sum(k) FROM t")
            size, insertions = queue()
            largest = max(largest, size)
            if insertions > begin + 45_000:
                return largest

    def overshoot() -> int:
        """By how much the queue is above 32,768 when stock looks: what evictions took out has moved the phase."""
        size, insertions = queue()
        return (size - insertions) % 4096

    while not 1500 < overshoot() < 3500:
        db(SCAN)
        db("SET memory_limit = '20MB'")
        db("RESET memory_limit")
    assert longest() > 33_500
    db.set(programs / "unpin_purge.bpf.o")
    assert longest() < 33_000
    assert db.point("unpin")["applied"] > 0


# --- load ----------------------------------------------------------------------------------------------------------


def test_load_once_frees_blocks_without_an_unpin_program(table, programs):
    db = table()
    expected = db(SCAN)
    assert db.memory("BASE_TABLE") > 20_000_000
    db.set(programs / "load_once.bpf.o")
    assert db(SCAN) == expected
    assert db.memory("BASE_TABLE") < 1_000_000
    assert db.point("load")["applied"] > 0


def test_load_keep_outlives_the_others(file_db, bpf):
    db = file_db(threads="1")
    for name in ("kept", "other"):
        rows = 1_000_000 if name == "kept" else 6_000_000
        db(f"CREATE TABLE {name} AS SELECT hash(i) AS v, hash(i + 1) AS w FROM range({rows}) r(i)")
        db("CHECKPOINT")
    lowest, highest = db(
        "SELECT min(block_id), max(block_id) FROM pragma_storage_info('kept') WHERE persistent AND block_id >= 0"
    )[0]
    db.connection.close()

    def misses_after_pressure(program: Path | None) -> int:
        db = file_db(threads="1", memory_limit="60MB")
        if program:
            db.set(program)
        db("SELECT sum(v), sum(w) FROM kept")
        for _ in range(2):
            db("SELECT sum(v), sum(w) FROM other")
        # Counted by what is refused: a block of `kept` that must be read again.
        db.set(bpf(COUNT_MISSES % (lowest, highest), "count_misses"))
        before = db.point("load")["refusals"].get("out_of_range", 0)
        db("SELECT sum(v), sum(w) FROM kept")
        misses = db.point("load")["refusals"].get("out_of_range", 0) - before
        db.set()
        db.connection.close()
        return misses

    stock = misses_after_pressure(None)
    kept = misses_after_pressure(bpf(KEEP % (lowest, highest), "keep"))
    assert stock > 10
    assert kept <= stock // 4


KEEP = """
SEC("duckdb/load") __u64 keep(struct duckbpf_load_ctx *ctx)
{
    return DUCKBPF_LOAD(ctx->block_id >= %dLL && ctx->block_id <= %dLL ? DUCKBPF_HINT_KEEP : DUCKBPF_HINT_NORMAL);
}
"""
COUNT_MISSES = """
SEC("duckdb/load") __u64 count_misses(struct duckbpf_load_ctx *ctx)
{
    return !ctx->hit && ctx->block_id >= %dLL && ctx->block_id <= %dLL ? DUCKBPF_LOAD(DUCKBPF_HINT_COUNT) : 0;
}
"""


# --- update_used_memory --------------------------------------------------------------------------------------------


def test_sums_of_deltas_equal_the_change_in_duckdb_memory(table, programs, tmp_path):
    db = table()
    db.set(programs / "live.bpf.o")
    db("SELECT count(*) FROM t WHERE v % 2 = 0")
    variables = Variables()

    def state() -> tuple[dict[str, int], tuple[int, int, int]]:
        used = dict(db("SELECT tag, memory_usage_bytes FROM duckdb_memory()"))
        live = variables.read()
        return used, (live.memory_delta, live.base_table_delta, live.hash_table_delta)

    def change(before: dict[str, int], after: dict[str, int]) -> tuple[int, int, int]:
        return (
            sum(after.values()) - sum(before.values()),
            after["BASE_TABLE"] - before["BASE_TABLE"],
            after["HASH_TABLE"] - before["HASH_TABLE"],
        )

    used, sums = state()
    steps = [
        SCAN,
        AGGREGATE,
        "CREATE TABLE copy AS FROM t LIMIT 1000000",
        "CREATE INDEX by_k ON copy(k)",
        "CHECKPOINT",
        "SET memory_limit = '40MB'",
        "SELECT count(*) FROM (SELECT v, count(*) FROM t GROUP BY v)",
        f"COPY copy TO '{tmp_path / 'copy.parquet'}'",
        f"SELECT sum(v) FROM '{tmp_path / 'copy.parquet'}'",
        "SELECT sum(a.v) FROM copy a JOIN copy b USING (v)",
        "DROP TABLE copy",
    ]
    for step in steps:
        db(step)
        used_now, sums_now = state()
        assert change(used, used_now) == tuple(now - then for now, then in zip(sums_now, sums, strict=True)), step
    before = db.point("update_used_memory")
    counted = variables.read().memory_updates
    assert 1000 < before["calls"] <= counted <= db.point("update_used_memory")["calls"]
    assert before["applied"] == 0


def test_contexts_carry_their_query(table, programs):
    db = table()
    db.set(programs / "live.bpf.o")
    db(SCAN)
    variables = Variables()
    before = variables.read()
    db(SCAN)
    after = variables.read()
    assert after.database_ids_or != 0
    with_query = after.with_query_id - before.with_query_id
    without_query = after.without_query_id - before.without_query_id
    assert with_query > 10 * without_query


def test_loads_equal_unpins(table, programs):
    db = table()
    db.set(programs / "live.bpf.o")
    db(SCAN)
    variables = Variables()
    before = variables.read()
    db(SCAN)
    db(AGGREGATE)
    after = variables.read()
    assert after.loads - before.loads == after.unpins - before.unpins > 100


# --- allocate_new_block --------------------------------------------------------------------------------------------


def chunks_of_a_query(db, program: Path) -> dict[str, int]:
    db.set(program)
    before = db.point("allocate_new_block")
    assert db.one("SELECT count(*) FROM (SELECT list(i::VARCHAR) FROM range(300000) r(i) GROUP BY i % 1000)") == 1000
    after = db.point("allocate_new_block")
    return {key: after[key] - before[key] for key in ("calls", "applied", "refused")}


def test_larger_chunks_are_fewer(table, gallery, programs):
    db = table()
    stock = chunks_of_a_query(db, gallery / "default_allocate_new_block.bpf.o")
    large = chunks_of_a_query(db, programs / "arena_large.bpf.o")
    small = chunks_of_a_query(db, programs / "arena_small.bpf.o")
    assert stock["applied"] == stock["calls"] > 10
    assert large["calls"] < stock["calls"] < small["calls"]
    assert large["refused"] > 0  # 16 MiB is more than four times stock's choice at first
    assert small["applied"] == small["calls"]


# --- execute_forever -----------------------------------------------------------------------------------------------


def slices_of_a_query(db, program: Path) -> dict[str, int]:
    db.set(program)
    before = db.point("execute_forever")
    expected = db(SCAN)
    after = db.point("execute_forever")
    assert len(expected) == 1
    return {key: after[key] - before[key] for key in ("calls", "applied", "refused")}


def test_a_client_runs_whole_tasks_in_fewer_slices(table, programs):
    db = table()
    partial = slices_of_a_query(db, programs / "execute_partial.bpf.o")
    whole = slices_of_a_query(db, programs / "execute_whole.bpf.o")
    assert partial["applied"] > 10
    assert 0 < whole["calls"] < partial["calls"] // 2


def test_a_worker_puts_partial_tasks_back(table, programs):
    db = table(threads="4")
    counter = programs / "live.bpf.o"

    def tasks(program: Path) -> int:
        db.set(program, counter)
        before = db.point("schedule_task")["calls"]
        for _ in range(3):
            db(AGGREGATE)
        return db.point("schedule_task")["calls"] - before

    # How many more depends on how much of the work the client's own thread takes, which puts nothing back.
    assert tasks(programs / "execute_partial.bpf.o") > tasks(programs / "execute_whole.bpf.o")


def test_a_client_waits(table, programs):
    db = table()
    expected = db(SCAN)
    began = time.monotonic()
    waited = slices_of_a_query(db, programs / "execute_wait.bpf.o")
    took = time.monotonic() - began
    assert waited["applied"] > 5 and waited["refused"] == 0
    assert took >= waited["applied"] * 0.010
    db.set()
    assert db(SCAN) == expected


def test_a_wait_ends_at_an_interrupt(table, programs):
    db = table()
    db.set(programs / "execute_wait.bpf.o")
    timer = threading.Timer(0.5, db.connection.interrupt)
    timer.start()
    with pytest.raises(duckdb.InterruptException):
        db("SELECT count(*) FROM t a, t b WHERE a.v + b.v = 7")
    timer.join()


def test_idle_workers_flush_and_clients_cannot(table, programs):
    db = table(threads="4")
    db.set(programs / "execute_flush.bpf.o")
    db(AGGREGATE)
    refused = db.point("execute_forever")["refusals"]
    assert refused.get("wrong_site", 0) > 0
    # Workers reach the site half a second after their last task, where the allocator can flush at all.
    deadline = time.monotonic() + 20
    while db.point("execute_forever")["applied"] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert db.point("execute_forever")["applied"] > 0


# --- hash ----------------------------------------------------------------------------------------------------------


def test_another_hash_moves_groups_to_other_partitions(file_db, gallery, programs):
    """DuckDB gives groups out partition by partition: groups that were neighbours part, and the result stays."""
    db = file_db(threads="4")
    # One row group, so that one thread fills the partitions in the table's order.
    db("CREATE TABLE t AS SELECT (hash(i) % 1000000007)::BIGINT AS k FROM range(100000) r(i)")

    def groups() -> list[tuple[int, int]]:
        return db("SELECT k, count(*) FROM t GROUP BY k")

    def neighbours_kept(rows: list[tuple[int, int]]) -> float:
        pairs = set(pairwise(rows))
        return len(pairs & stock_pairs) / len(stock_pairs)

    stock = groups()
    stock_pairs = set(pairwise(stock))
    assert neighbours_kept(groups()) > 0.99
    for program, kept in (
        (gallery / "default_hash.bpf.o", True),
        (gallery / "hash_wy.bpf.o", False),
        (programs / "hash_weak.bpf.o", False),
    ):
        db.set(program)
        rows = groups()
        assert sorted(rows) == sorted(stock)
        assert neighbours_kept(rows) > 0.99 if kept else neighbours_kept(rows) < 0.6
        assert db("SELECT keys >= 100000 AND applied > 0 FROM hook_programs()") == [(True,)]


# --- schedule_task -------------------------------------------------------------------------------------------------


def test_class_zero_is_stock(table, gallery):
    db = table(threads="4")
    expected = sorted(db(AGGREGATE))
    db.set(gallery / "default_schedule_task.bpf.o")
    assert sorted(db(AGGREGATE)) == expected
    point = db.point("schedule_task")
    assert point["applied"] == point["calls"] > 0 and point["refused"] == 0


SHARE = """
__u64 worker;
__u64 both;

SEC("duckdb/schedule_task") __u64 place(struct duckbpf_schedule_task_ctx *ctx)
{
    __u64 favoured = ctx->origin.connection_id %% 2 == %d;
    return %s;
}

/* Tasks of the one worker come in slices, so that it picks often. */
SEC("duckdb/execute_forever") __u64 slice(struct duckbpf_execute_forever_ctx *ctx)
{
    if (ctx->site != DUCKBPF_SITE_WORKER || ctx->pool != DUCKBPF_POOL_REGULAR)
        return 0;
    worker = ctx->origin.thread_index;
    both = ctx->active_queries >= 2;
    return DUCKBPF_DECIDED | DUCKBPF_EXECUTE_PARTIAL%s;
}

/* What the worker did while both queries ran: of even connections it is applied, of odd ones refused. */
SEC("duckdb/unpin") __u64 tell(struct duckbpf_unpin_ctx *ctx)
{
    if (!both || ctx->origin.thread_index != worker)
        return 0;
    return ctx->origin.connection_id %% 2 ? 1ULL << 63 : DUCKBPF_UNPIN_QUEUE;
}
"""
BY_CLASS = "DUCKBPF_SCHEDULE(ctx->pool, favoured ? 1 : 7)"
BY_POOL = "DUCKBPF_SCHEDULE(favoured ? DUCKBPF_POOL_ASYNC : ctx->pool, 0)"


class Shares:
    """Two clients with equal queries, and one worker that helps both: whose work does it do?"""

    QUERY = "SELECT k % 100 AS key, sum(sqrt(v)) AS a, sum(sqrt(w)) AS b FROM t GROUP BY key ORDER BY key"
    ROUNDS = 6

    def __init__(self, db) -> None:
        self.db = db
        self.clients = [db.connection.cursor(), db.connection.cursor()]
        self.groups = len(db(self.QUERY))

    def measure(self, program: Path) -> tuple[int, int]:
        """What the worker did for the connection with an even id, and for the other one, while both were busy."""
        self.db.set(program)
        before = self.db.point("unpin")
        lengths: list[int] = []
        barrier = threading.Barrier(2)

        def run(connection: duckdb.DuckDBPyConnection) -> None:
            for _ in range(self.ROUNDS):
                barrier.wait(120)
                lengths.append(len(connection.execute(self.QUERY).fetchall()))

        threads = [threading.Thread(target=run, args=(connection,)) for connection in self.clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert lengths == [self.groups] * 2 * self.ROUNDS, "a query starved"
        after = self.db.point("unpin")
        odd = after["refusals"].get("unknown_bits", 0) - before["refusals"].get("unknown_bits", 0)
        return after["applied"] - before["applied"], odd


def test_the_lower_class_runs_first_and_nobody_starves(table, bpf):
    shares = Shares(table(threads="2"))
    even = shares.measure(bpf(SHARE % (0, BY_CLASS, ""), "even"))
    odd = shares.measure(bpf(SHARE % (1, BY_CLASS, ""), "odd"))
    print(f"work for even and odd connections: {even} favouring even ones, {odd} favouring odd ones")
    assert even[0] > 2 * even[1] > 0
    assert odd[1] > 2 * odd[0] > 0


def test_a_worker_looks_into_the_async_queue_first(table, bpf):
    db = table(threads="2", async_threads="0")  # the worker alone takes from both queues
    shares = Shares(db)
    regular_first = shares.measure(bpf(SHARE % (0, BY_POOL, ""), "regular_first"))
    async_first = shares.measure(bpf(SHARE % (0, BY_POOL, " | DUCKBPF_EXECUTE_ASYNC_FIRST"), "async_first"))
    print(f"work for the async and the regular queue: {regular_first} regular first, {async_first} async first")
    assert regular_first[1] > 2 * regular_first[0] > 0
    assert async_first[0] > 2 * async_first[1] > 0


TO_ASYNC = """
SEC("duckdb/schedule_task") __u64 place(struct duckbpf_schedule_task_ctx *ctx)
{
    return DUCKBPF_SCHEDULE(%s, 0);
}

SEC("duckdb/execute_forever") __u64 tell(struct duckbpf_execute_forever_ctx *ctx)
{
    return ctx->site == DUCKBPF_SITE_WORKER && ctx->pool == DUCKBPF_POOL_ASYNC ? DUCKBPF_DECIDED : 0;
}
"""


def test_tasks_go_to_the_async_pool(table, bpf):
    db = table(threads="2")
    expected = sorted(db(AGGREGATE))

    def async_steps(pool: str) -> int:
        db.set(bpf(TO_ASYNC % pool, pool.replace(">", "").replace("-", "_")))
        before = db.point("execute_forever")["applied"]
        for _ in range(5):
            assert sorted(db(AGGREGATE)) == expected
        return db.point("execute_forever")["applied"] - before

    assert async_steps("ctx->pool") == 0
    assert async_steps("DUCKBPF_POOL_ASYNC") > 0


# --- all -----------------------------------------------------------------------------------------------------------


def test_nonsense_is_refused_counted_and_harmless(table, programs):
    db = table(threads="4", memory_limit="60MB")
    expected = db(SCAN), sorted(db(AGGREGATE))
    db.set(programs / "nonsense.bpf.o")
    assert (db(SCAN), sorted(db(AGGREGATE))) == expected
    for hook in ("schedule_task", "execute_forever", "load", "unpin"):
        point = db.point(hook)
        assert point["refused"] == point["calls"] > 0, point
        assert sum(point["refusals"].values()) == point["refused"]
        assert point["applied"] == 0
    point = db.point("allocate_new_block")
    assert point["refusals"] == {"clamped": point["calls"]}


def test_the_defaults_decide_everything_and_change_nothing(table, gallery):
    db = table(threads="4")
    stock = db(SCAN), sorted(db(AGGREGATE))
    defaults = sorted(gallery.glob("default_*.bpf.o"))
    assert len(defaults) >= 7
    db.set(*defaults)
    assert (db(SCAN), sorted(db(AGGREGATE))) == stock
    for hook, calls, applied, refused in db(
        "SELECT hook, calls, applied, refused FROM hook_points() WHERE program LIKE 'default_%'"
    ):
        assert calls > 0, hook
        assert refused == 0, hook
        if hook not in ("update_used_memory", "query_end"):
            assert applied == calls, hook
