"""run_task: who runs the next slice of its work. Decisions have effects, and bounds hold against the worst ones."""

import threading
import time

import duckdb
import pytest

from official import CONFIG, official_client

ROWS = 2_000_000
QUERY = "SELECT k % 1000 AS g, count(*), sum(hash(v)) FROM t GROUP BY g ORDER BY g"
PATIENCE = 60

SEEN = """
struct seen { __u64 asks; __u64 worker_asks; __u64 most_running; __u64 most_waiting; __u64 cpu_ns; __u64 most_chunks; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u64); __type(value, struct seen);
} seen SEC(".maps");

static __always_inline void look(struct duckbpf_run_task_ctx *ctx, __u64 key)
{
    struct seen none = {0};
    struct seen *entry;

    bpf_map_update_elem(&seen, &key, &none, BPF_NOEXIST);
    entry = bpf_map_lookup_elem(&seen, &key);
    if (!entry)
        return;
    __sync_fetch_and_add(&entry->asks, 1);
    __sync_fetch_and_add(&entry->worker_asks, ctx->site == DUCKBPF_RUN_WORKER);
    if (ctx->running[0] > entry->most_running)
        entry->most_running = ctx->running[0];
    if (ctx->waiting[0] > entry->most_waiting)
        entry->most_waiting = ctx->waiting[0];
    if (ctx->cpu_ns > entry->cpu_ns)
        entry->cpu_ns = ctx->cpu_ns;
}
"""


def program(decision: str, key: str = "0") -> str:
    return f"""
{SEEN}
SEC("duckdb/run_task") __u64 run(struct duckbpf_run_task_ctx *ctx) {{ look(ctx, {key}); return {decision}; }}
"""


@pytest.fixture
def table(file_db):
    """A database with a table in so many slices, and so many threads."""

    def open_with(threads: int):
        db = file_db(threads=str(threads))
        db(f"CREATE TABLE IF NOT EXISTS t AS SELECT i AS k, i * 7 AS v FROM range({ROWS}) r(i)")
        return db

    return open_with


def seen(db) -> dict[str, int]:
    """What all asks saw, together."""
    names = "asks, worker_asks, most_running, most_waiting, cpu_ns"
    columns = ", ".join(f"max(value.{name})" for name in names.split(", "))
    (row,) = db(f"SELECT {columns} FROM hook_map_entries('seen')")
    return dict(zip(names.split(", "), row, strict=True))


def in_threads(db, count: int, work) -> list:
    """What `work` gives for cursors of their own, on as many threads. No thread may hang."""
    results: list = [None] * count

    def run(number: int) -> None:
        try:
            results[number] = work(db.connection.cursor())
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a query hangs"
    return results


@pytest.mark.parametrize("threads", [1, 4])
def test_the_default_changes_nothing(table, gallery, threads):
    db = table(threads)
    expected = db(QUERY)
    db.set(gallery / "default_run_task.bpf.o")
    assert db(QUERY) == expected
    point = db.point("run_task")
    assert point["applied"] == point["calls"] > 0 and point["refused"] == 0


def test_chunks_are_the_length_of_a_slice(table, bpf):
    db = table(1)
    expected = db(QUERY)

    def calls(decision: str) -> int:
        db.set(bpf(program(decision), "slice"))
        assert db(QUERY) == expected
        return db.point("run_task")["calls"]

    before = calls("DUCKBPF_RUN(0, 0)")
    stock = calls("DUCKBPF_RUN(0, 0)") - before
    short = calls("DUCKBPF_RUN(0, 0) | DUCKBPF_RUN_CHUNKS(5)") - before - stock
    assert short > 5 * stock


def test_workers_ask_too_and_run_slices(table, bpf):
    db = table(4)
    expected = db(QUERY)
    db.set(bpf(program("DUCKBPF_RUN(0, 0) | DUCKBPF_RUN_CHUNKS(5)")))
    for _ in range(20):
        assert db(QUERY) == expected
        if seen(db)["worker_asks"] > 100:
            return
    pytest.fail(f"workers do not ask: {seen(db)}")


def test_a_worker_goes_on_with_the_task_of_a_query_that_is_alone(table, bpf):
    db = table(2)
    expected = db(QUERY)
    count = bpf('SEC("duckdb/schedule_task") __u64 f(void *c) { return 0; }', "count")

    def tasks(decision: str) -> int:
        db.set(bpf(program(decision), "slice"), count)
        before = db.point("schedule_task")["calls"]
        for _ in range(10):
            assert db(QUERY) == expected
        return db.point("schedule_task")["calls"] - before

    whole = tasks("DUCKBPF_RUN(0, 0)")
    slices = tasks("DUCKBPF_RUN(0, 0) | DUCKBPF_RUN_CHUNKS(2)")
    # A worker that put its task back after each slice would queue a hundred and more.
    assert seen(db)["worker_asks"] > 200
    assert slices < whole + 50


@pytest.mark.parametrize("keep", ["", " | DUCKBPF_RUN_KEEP"])
def test_a_limit_is_kept(table, bpf, keep):
    db = table(1)
    expected = db(QUERY)
    db.set(bpf(program(f"DUCKBPF_RUN(0, 2) | DUCKBPF_RUN_CHUNKS(5){keep}")))
    for result in in_threads(db, 5, lambda cursor: cursor.execute(QUERY).fetchall()):
        assert result == expected
    saw = seen(db)
    # What a query sees before it runs: two others, or itself with a kept slot and one other. Those whose bound was reached come on top.
    overdue = db.point("run_task")["refusals"].get("bound", 0)
    assert saw["most_running"] <= 2 + overdue
    assert saw["most_waiting"] >= 2


def test_without_a_limit_all_run(table, bpf):
    db = table(1)
    db.set(bpf(program("DUCKBPF_RUN(0, 0) | DUCKBPF_RUN_CHUNKS(5)")))
    for _ in range(20):
        in_threads(db, 5, lambda cursor: cursor.execute(QUERY).fetchall())
        if seen(db)["most_running"] > 2:
            return
    pytest.fail(f"five clients never ran at once: {seen(db)}")


def test_cpu_is_accounted(table, bpf):
    db = table(1)
    db.set(bpf(program("DUCKBPF_RUN(0, 0)", "ctx->origin.query_id")))
    begin = time.thread_time_ns()
    db(QUERY)
    used = time.thread_time_ns() - begin
    accounted = seen(db)["cpu_ns"]
    # All but the last slice, planning and the reading of the result.
    assert used / 4 < accounted <= used


def test_fingerprints_forget_literals(table, bpf):
    db = table(1)
    db.set(bpf(program("DUCKBPF_RUN(0, 0)", "ctx->fingerprint")))

    def known() -> set[int]:
        return {key for (key,) in db("SELECT key FROM hook_map_entries('seen')")}

    known()
    before = known()
    db("SELECT count(*) FROM t WHERE k > 10 AND 'a' <> 'it''s 7'")
    (first,) = known() - before
    db("select COUNT(*)  from t -- a comment\nwhere k>123 and 'bc' <> '42';")
    assert known() == before | {first}
    db("SELECT count(*) FROM t WHERE v > 10 AND 'a' <> '42'")
    assert len(known()) == len(before) + 2


# --- hash tables that grow or are finished: asked about in the middle of a task ------------------------------------------------

CHUNKS = ROWS // 2048
#: What a hash table does with all rows at once: it grows under a group-by, it combines what threads left of a partition, it is finished
#: under a join. By the threads that there are, the query, and after how many asks for each chunk of the table this is under way.
WHOLE = {
    "grow": (2, "SELECT count(*), sum(n) FROM (SELECT k, count(*) AS n FROM t GROUP BY k)", 1.75),
    "combine": (4, "SELECT count(*), sum(n) FROM (SELECT k, count(*) AS n FROM t GROUP BY k)", 1.4),
    "build": (4, "SELECT count(*), sum(a.v) FROM t a JOIN t b ON a.k = b.v - 6 * b.k", 1.3),
}


def client_only(decision: str) -> str:
    """The client does all of it, for workers are held."""
    return f"ctx->site == DUCKBPF_RUN_WORKER ? DUCKBPF_HOLD(0) : ({decision})"


def client_asks(db) -> int:
    (asks,) = db("SELECT max(value.asks) - max(value.worker_asks) FROM hook_map_entries('seen')")[0]
    return asks or 0


@pytest.mark.parametrize("work", WHOLE)
def test_hash_tables_ask_in_the_middle_of_a_task(table, bpf, work):
    threads, query, _ = WHOLE[work]
    db = table(threads)
    expected = db(query)

    def asks(length: str) -> int:
        db.set(bpf(program(client_only(f"DUCKBPF_RUN(0, 0){length}")), "slice"))
        before = client_asks(db)
        assert db(query) == expected
        return client_asks(db) - before

    # Pipelines alone ask 1.0 (grow, combine) to 1.6 times (build) for each chunk. On a busy machine workers come to their bound and take a
    # part of the work, which makes the client's asks fewer, never more.
    assert any(asks(" | DUCKBPF_RUN_CHUNKS(1)") > 2.1 * CHUNKS for _ in range(20))
    # A slice that has no length is not asked about before its end.
    assert asks("") < 0.2 * CHUNKS


def bounds(db) -> int:
    return (db.point("run_task")["refusals"] or {}).get("bound", 0)


@pytest.fixture
def held_inside(table, bpf):
    """Runs a query on a thread until it is held in the middle of its hash table, for good. The database, what the query gives, the thread,
    its cursor, and where its outcome will be."""

    def start(work: str):
        threads, query, under_way = WHOLE[work]
        db = table(threads)
        expected = db(query)
        last = int(under_way * CHUNKS)
        decision = client_only(f"asked++ > {last} ? DUCKBPF_HOLD(0) : DUCKBPF_RUN(0, 0) | DUCKBPF_RUN_CHUNKS(1)")
        db.set(bpf("static __u64 asked;\n" + program(decision)))
        cursor, outcome = db.connection.cursor(), []

        def run() -> None:
            try:
                outcome.append(cursor.execute(query).fetchall())
            except duckdb.Error as error:
                outcome.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while thread.is_alive() and client_asks(db) < last + 5 and time.monotonic() < deadline:
            pass
        return db, expected, thread, cursor, outcome

    return start


@pytest.mark.parametrize("work", WHOLE)
def test_who_is_held_in_the_middle_of_a_task_is_interrupted(held_inside, work):
    # On a busy machine it may have come to its bound, and its end, before anybody saw that it was held.
    for _ in range(10):
        _, _, thread, cursor, outcome = held_inside(work)
        cursor.interrupt()
        thread.join(PATIENCE)
        if isinstance(outcome[0], duckdb.InterruptException):
            break
    assert isinstance(outcome[0], duckdb.InterruptException)


@pytest.mark.parametrize("work", WHOLE)
def test_who_is_held_in_the_middle_of_a_task_runs_after_its_bound(held_inside, work):
    db, expected, thread, _, outcome = held_inside(work)
    thread.join(PATIENCE)
    assert outcome == [expected]
    assert bounds(db) >= 1


@pytest.mark.parametrize("work", WHOLE)
def test_detaching_lets_go_who_is_held_in_the_middle_of_a_task(held_inside, work):
    db, expected, thread, _, outcome = held_inside(work)
    db.set()
    thread.join(PATIENCE)
    assert outcome == [expected]


# --- the worst that a program may decide ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "decision",
    [
        "DUCKBPF_HOLD(7) | DUCKBPF_RUN_WAIT_US(20000)",
        "DUCKBPF_HOLD(0) | DUCKBPF_RUN_KEEP | DUCKBPF_RUN_WAIT_US(1)",
        "(bpf_get_prandom_u32() & 1 ? DUCKBPF_HOLD(1) : DUCKBPF_RUN(2, 1)) | DUCKBPF_RUN_KEEP | DUCKBPF_RUN_CHUNKS(1)",
        "((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32())",
    ],
    ids=["hold", "spin", "flicker", "noise"],
)
def test_no_decision_hangs_or_changes_a_result(table, bpf, decision, threads):
    db = table(threads)
    query = "SELECT k % 10 AS g, count(*), sum(v) FROM t WHERE k < 200000 GROUP BY g ORDER BY g"
    # Its hash table asks in the middle of a task.
    grouped = "SELECT count(*), sum(n) FROM (SELECT k, count(*) AS n FROM t WHERE k < 300000 GROUP BY k)"
    expected, counted = db(query), db(grouped)
    db.set(bpf(program(decision), "worst"))
    for result in in_threads(db, 3, lambda cursor: cursor.execute(query).fetchall()):
        assert result == expected
    assert in_threads(db, 2, lambda cursor: cursor.execute(grouped).fetchall()) == [counted, counted]
    db("CHECKPOINT")
    db("CREATE TABLE other AS FROM t WHERE k < 100000")
    db.set()
    assert db("SELECT count(*) FROM other") == [(100000,)]


def test_held_queries_run_after_their_bound(table, bpf):
    db = table(1)
    db.set(bpf(program("DUCKBPF_HOLD(0) | DUCKBPF_RUN_WAIT_US(20000)")))
    db("SELECT sum(v) FROM t WHERE k < 100000")
    assert db.point("run_task")["refusals"]["bound"] >= 1


@pytest.mark.parametrize("threads", [1, 4])
def test_held_queries_are_interrupted(table, bpf, threads):
    db = table(threads)
    cursor = db.connection.cursor()
    db.set(bpf(program("DUCKBPF_HOLD(0) | DUCKBPF_RUN_WAIT_US(20000)")))
    before = db.point("run_task")["calls"]
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            cursor.execute("SELECT count(*) FROM t a, t b WHERE a.k + b.k = -1").fetchall()
        except duckdb.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while db.point("run_task")["calls"] < before + 5 and time.monotonic() < deadline:
        pass
    cursor.interrupt()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert isinstance(outcome[0], duckdb.InterruptException)


def test_detaching_lets_the_held_go(table, bpf):
    """At a slice of a chunk and a twentieth of the time the query would take minutes."""
    db = table(1)
    expected = db(QUERY)
    db.set(bpf(program("DUCKBPF_HOLD(0) | DUCKBPF_RUN_CHUNKS(1)")))
    before = db.point("run_task")["calls"]

    def work(cursor):
        return cursor.execute(QUERY).fetchall()

    result: list = []
    thread = threading.Thread(target=lambda: result.append(work(db.connection.cursor())), daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while db.point("run_task")["calls"] < before + 5 and time.monotonic() < deadline:
        pass
    db.set()
    thread.join(PATIENCE)
    assert result == [expected]


def test_statements_that_steer_are_never_asked_about(table, bpf):
    db = table(1)
    db.set(bpf(program("DUCKBPF_HOLD(0)")))
    before = db.point("run_task")["calls"]
    db("SET memory_limit = '1GB'")
    db("FROM hook_programs()")
    db("BEGIN")
    db("ROLLBACK")
    db("SELECT name FROM Hook_Programs() WHERE name = 'x'")
    assert db.point("run_task")["calls"] == before


@official_client
def test_two_connections_on_one_thread_do_not_block_each_other(bpf):
    """One holds a kept slot in a result that is half read; the other wants the only slot."""
    with duckdb.connect(config={**CONFIG, "threads": "1"}) as connection:
        connection.execute("LOAD duckbpf")
        connection.execute(f"CREATE TABLE t AS SELECT i AS k, i AS v FROM range({ROWS}) r(i)")
        one = bpf(program("DUCKBPF_RUN(1, 1) | DUCKBPF_RUN_KEEP"), "one")
        connection.execute(f"SET hook_program = '{one}'")
        streaming, other = connection.cursor(), connection.cursor()
        reader = streaming.execute("SELECT k FROM t")
        assert reader.fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM t").fetchall() == [(ROWS,)]
        assert len(reader.fetchmany(10)) == 10
