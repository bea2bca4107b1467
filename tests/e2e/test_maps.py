"""Maps and helpers in a running DuckDB: what they count agrees with what the host counts, and nothing is lost by a reload."""

import re
import threading
from pathlib import Path

import duckdb
import pytest

from official import ROOT

STATE = """
LICENSE("MIT");

enum what { USED, MAX, BASE_TABLE, QUEUED, ACTIVE, THREADS, HITS, MISSES, SPILLED, QUERY, CONNECTION, AGE, COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNT);
	__type(key, __u32);
	__type(value, __u64);
} state SEC(".maps");

static __always_inline void keep(__u32 what, __u64 value)
{
	__u64 *most = bpf_map_lookup_elem(&state, &what);

	if (most && value > *most)
		*most = value;
}

SEC("duckdb/load")
__u64 look(struct duckbpf_load_ctx *ctx)
{
	keep(USED, duckbpf_used_memory());
	keep(MAX, duckbpf_max_memory());
	keep(BASE_TABLE, duckbpf_used_memory_by_tag(0));
	keep(QUEUED, duckbpf_queue_length(DUCKBPF_POOL_REGULAR));
	keep(ACTIVE, duckbpf_active_queries());
	keep(THREADS, duckbpf_threads());
	keep(HITS, duckbpf_buffer_hits());
	keep(MISSES, duckbpf_buffer_misses());
	keep(SPILLED, duckbpf_spill_bytes());
	keep(QUERY, duckbpf_query_id());
	keep(CONNECTION, duckbpf_connection_id());
	keep(AGE, duckbpf_query_age_ns());
	return ctx->origin.thread_index == duckbpf_thread_index() && ctx->origin.query_id == duckbpf_query_id() ? 0 : 2;
}
"""

NAMES = [
    "used",
    "max",
    "base_table",
    "queued",
    "active",
    "threads",
    "hits",
    "misses",
    "spilled",
    "query",
    "connection",
    "age",
]


@pytest.fixture
def table(file_db):
    db = file_db(threads="2")
    db("CREATE TABLE t AS SELECT i % 1007 AS k, hash(i) AS v FROM range(2000000) r(i)")
    db("CHECKPOINT")
    db.connection.close()
    return lambda **config: file_db(**{"threads": "2", **config})


def test_the_engine_tells_its_state(table, bpf):
    db = table(memory_limit="400MiB")
    db(f"CALL hook_attach('{bpf(STATE, 'state')}')")
    db("SELECT sum(v) FROM t")
    db("SELECT sum(v) FROM t")
    state = dict(zip(NAMES, (value for _, value in db("FROM hook_map_entries('state') ORDER BY key")), strict=True))
    assert state["max"] == 400 << 20
    assert 10_000_000 < state["base_table"] <= state["used"] < state["max"]
    assert state["threads"] == 2
    assert state["active"] == 1
    assert state["misses"] > 20
    assert state["hits"] > 0
    assert state["spilled"] == 0
    assert state["query"] > 0
    assert state["connection"] > 0
    assert state["age"] > 0
    # The program answers 2, which is refused, where context and helpers do not agree.
    assert db.point("load")["refused"] == 0


def test_bytes_on_disk_are_told(table, bpf):
    db = table(memory_limit="30MiB")
    db(f"CALL hook_attach('{bpf(STATE, 'state')}')")
    db("SELECT count(*) FROM (SELECT i, hash(i) h FROM range(3000000) r(i) ORDER BY h)")
    assert db.one(f"SELECT value FROM hook_map_entries('state') WHERE key = {NAMES.index('spilled')}") > 0


def test_counts_of_threads_add_up_to_the_hosts(table, gallery):
    db = table(threads="4")
    db(f"CALL hook_attach('{gallery / 'count_calls.bpf.o'}')")

    def run() -> None:
        cursor = db.connection.cursor()
        for _ in range(5):
            cursor.execute("SELECT k, sum(v) FROM t GROUP BY k").fetchall()

    clients = [threading.Thread(target=run) for _ in range(3)]
    [client.start() for client in clients]
    [client.join() for client in clients]
    # Threads that idle go on calling execute_forever.
    hooks = {"load": 3, "update_used_memory": 4, "allocate_new_block": 5, "unpin": 6}
    counted = {
        hook: db.one(f"SELECT list_sum(value) FROM hook_map_entries('calls') WHERE key = {key}")
        for hook, key in hooks.items()
    }
    told = {hook: db.point(hook)["calls"] for hook in hooks}
    for hook in hooks:
        # The look itself loads and allocates.
        assert 0 < counted[hook] <= told[hook] <= counted[hook] + 1000, hook


def test_lines_reach_the_log(db, bpf):
    text = """
    LICENSE("MIT");
    SEC("duckdb/allocate_new_block")
    __u64 grow(struct duckbpf_allocate_new_block_ctx *ctx)
    {
        bpf_printk("grow by %llu in query %llu", ctx->min_size, ctx->origin.query_id);
        return 0;
    }
    """
    db("CALL enable_logging(level := 'info')")
    db(f"CALL hook_attach('{bpf(text, 'printing')}')")
    db("SELECT i % 100 AS k, list(i) FROM range(100000) r(i) GROUP BY k")
    lines = db("SELECT message FROM duckdb_logs WHERE message LIKE 'grow by % in query %'")
    assert 0 < len(lines) <= 1000


def test_a_reload_under_load_loses_no_count(table, gallery):
    db = table()
    program = gallery / "count_calls.bpf.o"
    db(f"CALL hook_attach('{program}')")
    stop = threading.Event()

    def run() -> None:
        cursor = db.connection.cursor()
        while not stop.is_set():
            cursor.execute("SELECT k, sum(v) FROM t GROUP BY k").fetchall()

    client = threading.Thread(target=run)
    client.start()
    last = 0
    for _ in range(100):
        db(f"CALL hook_attach('{program}', replace := true)")
        now = db.one("SELECT sum(list_sum(value))::BIGINT FROM hook_map_entries('calls')")
        assert now >= last
        last = now
    stop.set()
    client.join()
    assert last > 0


def test_two_readers_of_a_ring_share_its_events(table, gallery):
    db = table()
    db(f"CALL hook_attach('{gallery / 'trace_load.bpf.o'}')")
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def read() -> None:
        cursor = db.connection.cursor()
        while True:
            last = done.is_set()
            seen.extend(cursor.execute("SELECT time_ns, block_id FROM hook_events('events')").fetchall())
            if last:
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    [reader.start() for reader in readers]
    db("SELECT sum(v) FROM t")
    misses = db.point("load")["calls"]
    done.set()
    [reader.join() for reader in readers]
    assert len(seen) == len(set(seen)) > 0
    assert len(seen) <= misses
    assert db.one("SELECT lost FROM hook_maps() WHERE name = 'events'") == 0


def test_names_with_quotes_and_unicode_are_only_names(db):
    for name in ("it''s", "größe", "x; DROP TABLE t", "a/b/c"):
        with pytest.raises(duckdb.InvalidInputException, match="no map is named"):
            db(f"FROM hook_map_entries('{name}')")


def test_maps_count_as_the_databases_memory(db, gallery):
    before = db.memory("EXTENSION")
    assert (
        db.one("SELECT memory_bytes FROM hook_map_create('big', 'array', value := 'UBIGINT', max_entries := 1048576)")
        == 8 << 20
    )
    assert db.memory("EXTENSION") - before == 8 << 20
    db(f"CALL hook_attach('{gallery / 'unpin_sizes.bpf.o'}')")
    assert db.memory("EXTENSION") - before == db.one("SELECT sum(memory_bytes) FROM hook_maps()")
    db("CALL hook_detach('unpin_sizes')")
    assert db.memory("EXTENSION") - before == 8 << 20
    db("CALL hook_map_unpin('big')")
    assert db.memory("EXTENSION") == before


def test_memory_limit_bounds_maps(db):
    db("SET memory_limit = '20MiB'")
    with pytest.raises(duckdb.InvalidInputException, match="memory_limit leaves no room"):
        db("CALL hook_map_create('big', 'array', value := 'UBIGINT', max_entries := 4194304)")
    assert db("FROM hook_maps()") == []
    db("CALL hook_map_create('small', 'array', value := 'UBIGINT', max_entries := 1000)")


def test_the_account_goes_to_the_next_database(db, file_db):
    db("CALL hook_map_create('first', 'array', value := 'UBIGINT', max_entries := 131072)")
    other = file_db()
    assert other.memory("EXTENSION") == 0
    db.connection.close()
    other("CALL hook_map_create('second', 'array', value := 'UBIGINT', max_entries := 131072)")
    assert other.memory("EXTENSION") == 2 << 20


BLOCKS = """
LICENSE("MIT");

struct {
	__uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
	__uint(max_entries, 4096);
	__type(value, __u64);
} loads SEC(".maps");

SEC("duckdb/load")
__u64 load(struct duckbpf_load_ctx *ctx)
{
	__u64 *n = duckbpf_block_storage_get(&loads, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (n)
		*n += 1;
	return 0;
}
"""


def test_a_blocks_value_goes_with_the_block(table, bpf):
    db = table()
    db(f"CALL hook_attach('{bpf(BLOCKS, 'blocks')}')")
    db("SELECT sum(v) FROM t")
    entries = "SELECT entries FROM hook_maps() WHERE name = 'loads'"
    kept = db.one(entries)
    assert kept > 20
    # Temporary blocks have come and gone with this.
    db("SELECT count(*) FROM (SELECT i, hash(i) h FROM range(1000000) r(i) ORDER BY h)")
    assert db.one(entries) < kept + 20
    db("DROP TABLE t")
    db("CHECKPOINT")
    assert db.one(entries) < kept / 2


def test_one_select_draws_a_histogram_of_evicted_blocks(table):
    """The book's own."""
    page = (ROOT / "docs" / "src" / "maps.md").read_text()
    (select,) = re.findall(r"^SELECT key.query_id AS query.*?;", page, re.DOTALL | re.MULTILINE)
    db = table(memory_limit="30MiB")
    db("CALL hook_attach('evict_sizes')")
    db("SELECT count(*) FROM (SELECT i, hash(i) h FROM range(3000000) r(i) ORDER BY h)")
    histogram = db(select)
    assert all(query > 0 and size.endswith("iB") and blocks > 0 for query, size, blocks, _ in histogram)
    assert max(bar.count("█") for *_, bar in histogram) == 40


EVENTS = """
LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(value, __u64);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} made SEC(".maps");

SEC("duckdb/load")
__u64 note(struct duckbpf_load_ctx *ctx)
{
	__u64 size = ctx->size, *count;
	__u32 zero = 0;

	count = bpf_map_lookup_elem(&made, &zero);
	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_ringbuf_output(&events, &size, sizeof(size), 0);
	return 0;
}
"""


def test_a_full_ring_loses_what_its_counter_says(table, bpf):
    db = table()
    db(f"CALL hook_attach('{bpf(EVENTS, 'note')}')")
    for _ in range(10):
        db("SELECT sum(v) FROM t")
    # Its maps stay, and nothing is added while they are read.
    db("CALL hook_detach('note')")
    made = db.one("FROM hook_map_entries('made') SELECT value")
    lost = db.one("SELECT lost FROM hook_maps() WHERE name = 'events'")
    kept = len(db("FROM hook_events('events')"))
    assert kept == 4096 // 16, "eight bytes each, behind eight of their own"
    assert lost > 0 and kept + lost == made
    assert db("FROM hook_events('events')") == []


FLAGGED = """
LICENSE("MIT");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(map_flags, FLAGS);
	__type(key, __u32);
	__type(value, __u64);
} limits SEC(".maps");
SEC("duckdb/load") __u64 flagged(struct duckbpf_load_ctx *ctx)
{
	__u32 key = 1;
	__u64 value = 2, *found = bpf_map_lookup_elem(&limits, &key);

	if (found)
		CHANGE;
	return found ? *found : 0;
}
"""


def test_map_flags(db, bpf):
    made = iter(range(9))

    def object_of(flags: str, change: str) -> Path:
        return bpf(FLAGGED, f"flagged_{next(made)}", f"-DFLAGS=({flags})", f"-DCHANGE={change}")

    db(f"FROM hook_verify('{object_of('BPF_F_NO_PREALLOC', '*found += value')}')")
    update = "bpf_map_update_elem(&limits, &key, &value, BPF_ANY)"
    for change in ("*found += value", update):
        with pytest.raises(duckdb.Error, match="limits is read-only"):
            db(f"FROM hook_verify('{object_of('BPF_F_RDONLY_PROG', change)}')")
    reads = object_of("BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG", "(void)value")
    db(f"CALL hook_attach('{reads}')")
    # Others write what its programs only read.
    db("CALL hook_map_update('limits', 1, 7)")
    assert db.one(f"SELECT result FROM hook_run('{reads.name.removesuffix('.bpf.o')}')") == 7
    with pytest.raises(duckdb.Error, match="map_flags BPF_F_MMAPABLE are not supported"):
        db(f"FROM hook_verify('{object_of('1U << 10', '(void)value')}')")
    with pytest.raises(duckdb.Error, match="write"):
        db(f"FROM hook_verify('{object_of('BPF_F_WRONLY_PROG', '(void)value')}')")
