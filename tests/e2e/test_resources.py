"""pipeline_threads and operator_memory: decisions have effects, and stay within their bounds."""

import threading

import duckdb
import pytest
import tables

ROWS = 2_000_000
GROUPS = "SELECT count(*), sum(n) FROM (SELECT v, count(*) AS n FROM t GROUP BY v)"


@pytest.fixture
def table(file_db):
    return tables.counted(file_db, ROWS)


def on(hook: str, decision: str) -> str:
    return f'SEC("duckdb/{hook}") __u64 decide(struct duckbpf_{hook}_ctx *ctx) {{ (void)ctx; return {decision}; }}'


# --- pipeline_threads ----------------------------------------------------------------------------------------------------------


def tasks(db) -> int:
    """Tasks that a query's pipelines make: each asks schedule_task once a batch, with their number."""
    before = dict(db("SELECT key, value FROM hook_map_entries('made')"))
    assert db(GROUPS) == [(ROWS, ROWS)]
    after = dict(db("SELECT key, value FROM hook_map_entries('made')"))
    return after[0] - before[0]


COUNT_TASKS = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } made SEC(".maps");
SEC("duckdb/schedule_task") __u64 made_tasks(struct duckbpf_schedule_task_ctx *ctx)
{
    __u32 zero = 0;
    __u64 *count = bpf_map_lookup_elem(&made, &zero);
    if (count && ctx->n_tasks > 1)
        __sync_fetch_and_add(count, ctx->n_tasks);
    return 0;
}
"""


def test_the_defaults_change_nothing(table, gallery):
    db = table(threads="4", memory_limit="60MB")
    expected = db(GROUPS)
    db.set(gallery / "default_pipeline_threads.bpf.o", gallery / "default_operator_memory.bpf.o")
    assert db(GROUPS) == expected
    for hook in ("pipeline_threads", "operator_memory"):
        point = db.point(hook)
        assert point["applied"] == point["calls"] > 0 and point["refused"] == 0, hook


def test_a_pipeline_gets_fewer_tasks(table, bpf):
    db = table(threads="4")
    db.set(bpf(COUNT_TASKS + on("pipeline_threads", "DUCKBPF_THREADS(ctx->max_threads)"), "all"))
    stock = tasks(db)
    db.set(bpf(COUNT_TASKS + on("pipeline_threads", "DUCKBPF_THREADS(1)"), "one"))
    assert tasks(db) < stock


@pytest.mark.parametrize("decision", ["DUCKBPF_THREADS(0)", "DUCKBPF_THREADS(60000)", "bpf_get_prandom_u32() | 1"])
def test_threads_are_clamped(table, bpf, decision):
    db = table(threads="4")
    db.set(bpf(on("pipeline_threads", decision)))
    assert db(GROUPS) == [(ROWS, ROWS)]
    assert db.point("pipeline_threads")["refused"] > 0


# --- operator_memory -----------------------------------------------------------------------------------------------------------


def test_less_memory_makes_a_join_external(table, bpf):
    """A join that fits takes its memory once; one that does not asks again for each of its rounds."""
    db = table(threads="2", memory_limit="160MB")

    def updates(decision: str) -> int:
        db.set(bpf(on("operator_memory", decision), "join"))
        before = db.point("operator_memory")["applied"]
        assert db("SELECT count(*) FROM t a JOIN t b USING (v)") == [(ROWS,)]
        return db.point("operator_memory")["applied"] - before

    assert updates("ctx->lower") > 2 * updates("ctx->upper")


@pytest.mark.parametrize("decision", ["~0ULL", "1", "((__u64)bpf_get_prandom_u32() << 8)"])
def test_reservations_are_clamped_and_the_limit_holds(table, bpf, decision):
    limit = 100_000_000
    db = table(threads="4", memory_limit="100MB")
    db.set(bpf(on("operator_memory", decision)))
    results: list = []

    def run() -> None:
        try:
            results.append(db.connection.cursor().execute(GROUPS).fetchall())
        except duckdb.OutOfMemoryException:
            results.append(None)  # as stock may: three clients share the limit

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert all(result in (None, [(ROWS, ROWS)]) for result in results) and any(results)
    assert db.point("operator_memory")["refusals"]["clamped"] > 0
    assert db.one("SELECT sum(memory_usage_bytes) FROM duckdb_memory()") <= limit
