/* The observers' pack: what waits, what goes, what is read, in maps that SQL reads. Decides nothing but what is logged. */
#include "duckbpf.h"

LICENSE("MIT");

/* Entries of the log below this level are dropped; 0: none. */
const volatile __u32 least_level = 0;
/* Of queries, one in so many leaves the events of its way. 0: none. */
const volatile __u64 sample = 0;

/* Histograms of microseconds, but READ_BYTES and SPILL, which are KiB. */
enum what { FILE_READ = 0, CHECKPOINT = 1, READ_BYTES = 2, PIN_WAIT = 3, TASK_DELAY = 4, QUERY = 5, SPILL = 6, WHATS = 7 };

struct bucket {
	__u32 what; /* enum what */
	__u32 log2; /* of microseconds, or of KiB */
};

/* Histograms in powers of two. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 512);
	__type(key, struct bucket);
	__type(value, __u64);
} watch_histograms SEC(".maps");

struct of_query {
	__u64 evictions;
	__u64 reads;
	__u64 read_bytes;
	__u64 read_ns;
	__u64 slices;
	__u64 delay_ns; /* that its tasks waited for a worker */
	/* When it has ended: */
	__u64 duration_ns;
	__u64 cpu_ns;
	__u64 rows;
	__u64 peak_memory;
	__u64 spill_bytes;
	__u32 failed;
	__u32 error; /* DuckDB's ExceptionType */
};

/* By query. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct of_query);
} watch_queries SEC(".maps");

/* Queries that failed, by DuckDB's ExceptionType. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} watch_errors SEC(".maps");

/* By query: when its tasks were queued, until a worker takes one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} watch_queued SEC(".maps");

/* By thread: when it began to wait for a block. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} watch_pins SEC(".maps");

enum step { READ = 0, EVICTION = 1, CHECKPOINTED = 2, SLICE = 3, BLOCK = 4, END = 5 };

struct event {
	__u64 time_ns;
	__u64 query_id;
	__u64 amount; /* bytes that were read or evicted; nanoseconds of a checkpoint or query; CPU before a slice; a block's number */
	__u32 thread;
	__u32 what; /* enum step */
};

/* Queries' ways through tasks and blocks. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct event);
} watch_events SEC(".maps");

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 log = 0;

	if (value >> 32) { log += 32; value >>= 32; }
	if (value >> 16) { log += 16; value >>= 16; }
	if (value >> 8) { log += 8; value >>= 8; }
	if (value >> 4) { log += 4; value >>= 4; }
	if (value >> 2) { log += 2; value >>= 2; }
	return log + (__u32)(value >> 1);
}

static __always_inline void count(__u32 what, __u64 amount)
{
	struct bucket bucket = { .what = what, .log2 = log2_of(amount) };
	__u64 one = 1, *value = bpf_map_lookup_elem(&watch_histograms, &bucket);

	if (value)
		*value += 1;
	else
		bpf_map_update_elem(&watch_histograms, &bucket, &one, BPF_NOEXIST);
}

static __always_inline struct of_query *of_query(__u64 query)
{
	struct of_query zero = {}, *found = bpf_map_lookup_elem(&watch_queries, &query);

	if (found)
		return found;
	bpf_map_update_elem(&watch_queries, &query, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&watch_queries, &query);
}

static __always_inline void tell(const struct duckbpf_origin *origin, __u32 what, __u64 amount)
{
	struct event event = {
		.time_ns = bpf_ktime_get_ns(),
		.query_id = origin->query_id,
		.amount = amount,
		.thread = origin->thread_index,
		.what = what,
	};

	bpf_ringbuf_output(&watch_events, &event, sizeof(event), 0);
}

static __always_inline int sampled(__u64 query)
{
	return sample && query && query % sample == 0;
}

SEC("duckdb/load")
__u64 watch_pins_begin(struct duckbpf_load_ctx *ctx)
{
	__u32 zero = 0;
	__u64 *since;

	if (ctx->hit)
		return 0;
	since = bpf_map_lookup_elem(&watch_pins, &zero);
	if (since)
		*since = bpf_ktime_get_ns();
	if (sampled(ctx->origin.query_id))
		tell(&ctx->origin, BLOCK, ctx->block_id);
	return 0;
}

SEC("duckdb/file_read")
__u64 watch_reads(struct duckbpf_file_read_ctx *ctx)
{
	struct of_query *query;
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&watch_pins, &zero);

	if (since && *since) {
		count(PIN_WAIT, (bpf_ktime_get_ns() - *since) / 1000);
		*since = 0;
	}
	count(FILE_READ, ctx->duration_ns / 1000);
	count(READ_BYTES, ctx->bytes / 1024);
	query = of_query(ctx->origin.query_id);
	if (query) {
		__sync_fetch_and_add(&query->reads, 1);
		__sync_fetch_and_add(&query->read_bytes, ctx->bytes);
		__sync_fetch_and_add(&query->read_ns, ctx->duration_ns);
	}
	if (sampled(ctx->origin.query_id))
		tell(&ctx->origin, READ, ctx->bytes);
	return 0;
}

SEC("duckdb/evict")
__u64 watch_evictions(struct duckbpf_evict_ctx *ctx)
{
	struct of_query *query = of_query(ctx->origin.query_id);

	if (query)
		__sync_fetch_and_add(&query->evictions, 1);
	if (sampled(ctx->origin.query_id))
		tell(&ctx->origin, EVICTION, ctx->size);
	return 0;
}

SEC("duckdb/schedule_task")
__u64 watch_queue(struct duckbpf_schedule_task_ctx *ctx)
{
	__u64 query = ctx->origin.query_id, now = bpf_ktime_get_ns();

	if (query)
		bpf_map_update_elem(&watch_queued, &query, &now, BPF_ANY);
	return 0;
}

SEC("duckdb/run_task")
__u64 watch_tasks(struct duckbpf_run_task_ctx *ctx)
{
	__u64 id = ctx->origin.query_id, delay = 0;
	__u64 *queued = ctx->site == DUCKBPF_RUN_WORKER ? bpf_map_lookup_elem(&watch_queued, &id) : 0;
	struct of_query *query = of_query(id);

	if (queued && *queued) {
		delay = bpf_ktime_get_ns() - *queued;
		*queued = 0;
		count(TASK_DELAY, delay / 1000);
	}
	if (query) {
		__sync_fetch_and_add(&query->slices, 1);
		__sync_fetch_and_add(&query->delay_ns, delay);
	}
	if (sampled(id))
		tell(&ctx->origin, SLICE, ctx->cpu_ns);
	return 0;
}

SEC("duckdb/query_end")
__u64 watch_end(struct duckbpf_query_end_ctx *ctx)
{
	struct of_query *query = of_query(ctx->origin.query_id);
	__u32 error = ctx->error;
	__u64 one = 1, *errors;

	count(QUERY, ctx->duration_ns / 1000);
	if (ctx->spill_bytes)
		count(SPILL, ctx->spill_bytes / 1024);
	if (query) {
		query->duration_ns = ctx->duration_ns;
		query->cpu_ns = ctx->cpu_ns;
		query->rows = ctx->rows;
		query->peak_memory = ctx->peak_memory;
		query->spill_bytes = ctx->spill_bytes;
		query->failed = ctx->failed;
		query->error = error;
	}
	if (ctx->failed) {
		errors = bpf_map_lookup_elem(&watch_errors, &error);
		if (errors)
			__sync_fetch_and_add(errors, 1);
		else
			bpf_map_update_elem(&watch_errors, &error, &one, BPF_NOEXIST);
	}
	if (sampled(ctx->origin.query_id))
		tell(&ctx->origin, END, ctx->duration_ns);
	return 0;
}

SEC("duckdb/checkpoint")
__u64 watch_checkpoints(struct duckbpf_checkpoint_ctx *ctx)
{
	if (ctx->site == DUCKBPF_CHECKPOINT_DONE) {
		count(CHECKPOINT, ctx->duration_ns / 1000);
		tell(&ctx->origin, CHECKPOINTED, ctx->duration_ns);
	}
	return 0;
}

SEC("duckdb/log")
__u64 filter_log(struct duckbpf_log_ctx *ctx)
{
	return ctx->level < least_level ? DUCKBPF_LOG_DROPPED : 0;
}
