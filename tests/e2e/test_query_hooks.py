"""query_begin and query_end: who is let in, what a query used, and that no decision can lock anybody out."""

import threading
import time

import duckdb
import pytest
import tables

from official import official_client

PATIENCE = 60
ROWS = 1_000_000

ENDED = """
struct ended { __u64 duration_ns, waited_ns, cpu_ns, rows, peak_memory, spill_bytes; __u32 klass, failed, error, pad; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u64); __type(value, struct ended);
} ended SEC(".maps");

SEC("duckdb/query_end") __u64 end(struct duckbpf_query_end_ctx *ctx)
{
    __u64 key = ctx->origin.query_id;
    struct ended now = {
        ctx->duration_ns, ctx->waited_ns, ctx->cpu_ns, ctx->rows, ctx->peak_memory, ctx->spill_bytes,
        ctx->klass, ctx->failed, ctx->error, 0,
    };
    bpf_map_update_elem(&ended, &key, &now, BPF_ANY);
    return 0;
}
"""


def begin(decision: str) -> str:
    return f"""
SEC("duckdb/query_begin") __u64 begin(struct duckbpf_query_begin_ctx *ctx) {{ (void)ctx; return {decision}; }}
"""


@pytest.fixture
def table(file_db):
    return tables.counted(file_db, ROWS)


def ended(db) -> dict[int, dict[str, int]]:
    """What the program was told, by query."""
    return dict(db("SELECT key, value FROM hook_map_entries('ended')"))


def what_it_used(db, sql: str) -> dict[str, int]:
    """Runs a query and tells what query_end told of it."""
    db(sql)
    # The look itself is a query that has not ended.
    after = ended(db)
    return after[max(after)]


# --- query_end ---------------------------------------------------------------------------------------------------------------


def test_query_end_tells_what_a_query_used(table, bpf):
    db = table(threads="1")
    db.set(bpf(ENDED))
    begun = time.thread_time_ns()
    used = what_it_used(db, "SELECT k, v FROM t WHERE k < 12345")
    spent = time.thread_time_ns() - begun
    assert used["rows"] == 12345
    assert 0 < used["cpu_ns"] <= spent and used["cpu_ns"] <= used["duration_ns"]
    assert (used["failed"], used["error"], used["spill_bytes"], used["waited_ns"]) == (0, 0, 0, 0)


def test_query_end_tells_memory_and_spill(table, bpf):
    db = table(threads="2")
    db.set(bpf(ENDED))
    groups = "SELECT count(*) FROM (SELECT v, count(*) AS n FROM t GROUP BY v)"
    used = what_it_used(db, groups)
    # Every group has its key, its count and its hash.
    assert used["peak_memory"] > ROWS * 16 and used["spill_bytes"] == 0
    db("CREATE TABLE large AS SELECT hash(i) AS v, hash(-i) AS w FROM range(2_000_000) r(i)")
    db("SET memory_limit = '60MB'")
    used = what_it_used(db, "SELECT count(a.w + b.w) FROM large a JOIN large b USING (v)")
    assert used["spill_bytes"] > 1_000_000


def test_query_end_tells_errors(table, bpf):
    db = table(threads="2")
    db.set(bpf(ENDED))
    before = set(ended(db))
    with pytest.raises(duckdb.ConversionException):
        db("SELECT sum(CAST('x' || k AS INTEGER)) FROM t")
    errors = {row["error"] for key, row in ended(db).items() if key not in before and row["failed"]}
    assert errors == {2}


# --- query_begin -------------------------------------------------------------------------------------------------------------


def test_the_default_admits_all(table, gallery):
    db = table()
    db.set(gallery / "default_query_begin.bpf.o")
    assert db("SELECT count(*) FROM t") == [(ROWS,)]
    point = db.point("query_begin")
    assert point["applied"] == point["calls"] == 1 and point["refused"] == 0


def test_a_rejected_query_fails_with_the_programs_message(table, bpf):
    reject = """
static const char busy[] = "too many queries, come back later";
SEC("duckdb/query_begin") __u64 begin(struct duckbpf_query_begin_ctx *ctx)
{ (void)ctx; duckbpf_message(busy, sizeof(busy)); return DUCKBPF_REJECT; }
"""
    db = table()
    db.set(bpf(reject))
    for _ in range(3):
        with pytest.raises(duckdb.InvalidInputException, match=r"too many queries, come back later$"):
            db("SELECT count(*) FROM t")
    db.set(bpf(begin("DUCKBPF_REJECT"), "silent"))
    with pytest.raises(duckdb.InvalidInputException, match="query_begin"):
        db("INSERT INTO t VALUES (0, 0)")
    db.set()
    assert db("SELECT count(*) FROM t") == [(ROWS,)]


@pytest.mark.parametrize("decision", ["DUCKBPF_REJECT", "DUCKBPF_DELAY(0)"])
def test_statements_that_steer_always_pass(table, bpf, decision):
    db = table()
    db.set(bpf(begin(decision)))
    db("SET memory_limit = '1GB'")
    db("FROM hook_points()")
    db("SELECT name FROM HOOK_PROGRAMS()")
    db("CALL hook_detach('program')")
    db.set(bpf(begin(decision)))
    db("RESET hook_program")
    assert db("SELECT 1") == [(1,)]


def test_a_limit_lets_in_so_many(table, bpf):
    counting = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } most SEC(".maps");
SEC("duckdb/query_begin") __u64 begin(struct duckbpf_query_begin_ctx *ctx)
{
    __u32 in = 0, out = 1;
    __u64 *most_in = bpf_map_lookup_elem(&most, &in), *most_out = bpf_map_lookup_elem(&most, &out);
    if (most_in && ctx->admitted[3] > *most_in) *most_in = ctx->admitted[3];
    if (most_out && ctx->waiting[3] > *most_out) *most_out = ctx->waiting[3];
    return DUCKBPF_ADMIT(3, 2);
}
"""
    db = table(threads="1")
    db.set(bpf(counting))
    query = "SELECT count(DISTINCT v) FROM t"
    results: list = []
    threads = [
        threading.Thread(target=lambda: results.append(db.connection.cursor().execute(query).fetchall()), daemon=True)
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert results == [[(ROWS,)]] * 6
    ((most_in,), (most_out,)) = db("SELECT value FROM hook_map_entries('most') ORDER BY key")
    assert most_in == 2 and most_out >= 1


def test_waiting_ends_with_an_interrupt(table, bpf):
    db = table()
    db.set(bpf(begin("DUCKBPF_DELAY(0) | DUCKBPF_QUERY_WAIT_MS(1000)")))
    cursor = db.connection.cursor()
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            cursor.execute("SELECT count(*) FROM t")
        except duckdb.Error as error:
            outcome.append(error)

    before = db.point("query_begin")["calls"]
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while db.point("query_begin")["calls"] == before and time.monotonic() < deadline:
        pass
    begun = time.monotonic()
    cursor.interrupt()
    thread.join(PATIENCE)
    assert isinstance(outcome[0], duckdb.InterruptException)
    # Long before the bound.
    assert time.monotonic() - begun < 10
    db.set()
    assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(ROWS,)]


def test_detaching_lets_everybody_in(table, bpf):
    db = table()
    db.set(bpf(begin("DUCKBPF_DELAY(0) | DUCKBPF_QUERY_WAIT_MS(1000)")))
    before = db.point("query_begin")["calls"]
    result: list = []
    thread = threading.Thread(
        target=lambda: result.append(db.connection.cursor().execute("SELECT count(*) FROM t").fetchall()), daemon=True
    )
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while db.point("query_begin")["calls"] == before and time.monotonic() < deadline:
        pass
    begun = time.monotonic()
    db.set()
    thread.join(PATIENCE)
    assert result == [[(ROWS,)]] and time.monotonic() - begun < 10


def test_nobody_waits_longer_than_the_bound(table, bpf):
    db = table()
    db.set(bpf(begin("DUCKBPF_DELAY(7) | DUCKBPF_QUERY_WAIT_MS(1000)")))
    begun = time.monotonic()
    assert db("SELECT count(*) FROM t") == [(ROWS,)]
    assert 15 < time.monotonic() - begun < PATIENCE
    assert db.point("query_begin")["refusals"]["bound"] == 1


@official_client
def test_nobody_waits_where_somebody_could_wait_for_it(table, bpf):
    db = table()
    db.set(bpf(begin("DUCKBPF_ADMIT(0, 1) | DUCKBPF_QUERY_WAIT_MS(1000)")))
    first, second = db.connection.cursor(), db.connection.cursor()
    begun = time.monotonic()
    # A result that is half read keeps its place; the other connection is on the same thread.
    reader = first.execute("SELECT k FROM t ORDER BY k")
    assert reader.fetchone() == (0,)
    assert second.execute("SELECT count(*) FROM t").fetchall() == [(ROWS,)]
    assert reader.fetchone() == (1,)
    # Inside a transaction somebody may be waiting for what it wrote.
    db.set(bpf(begin("DUCKBPF_DELAY(0)"), "delay"))
    second.execute("BEGIN")
    second.execute("UPDATE t SET v = 0 WHERE k = 5")
    second.execute("COMMIT")
    assert db.point("query_begin")["refusals"]["wrong_site"] >= 1
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "decision", ["((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32())", "DUCKBPF_ADMIT(9, 1)", "6 | 1"]
)
def test_no_decision_breaks_a_query(table, bpf, decision):
    db = table()
    db.set(bpf(begin(decision)))
    for _ in range(30):
        try:
            assert db("SELECT count(*) FROM t") == [(ROWS,)]
        except duckdb.InvalidInputException as error:
            assert "query_begin" in str(error)
