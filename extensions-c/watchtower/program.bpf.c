/* The observers' pack: what waits, what goes, what is read, in maps that SQL reads. Decides nothing but what is logged. */
#include "duckbpf.h"

LICENSE("MIT");

/* Entries of the log below this level are dropped; 0: none. */
const volatile __u32 least_level = 0;
/* Of reads and loads, one in so many becomes an event. 0: none. */
const volatile __u32 sample = 0;

enum what { FILE_READ = 0, CHECKPOINT = 1, READ_BYTES = 2, WHATS = 3 };

struct bucket {
	__u32 what; /* enum what */
	__u32 log2; /* of microseconds, or of KiB */
};

/* Histograms in powers of two. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 256);
	__type(key, struct bucket);
	__type(value, __u64);
} watch_histograms SEC(".maps");

struct of_query {
	__u64 evictions;
	__u64 reads;
	__u64 read_bytes;
	__u64 read_ns;
};

/* By query. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct of_query);
} watch_queries SEC(".maps");

struct event {
	__u64 time_ns;
	__u64 query_id;
	__u64 amount; /* bytes that were read or evicted; nanoseconds of a checkpoint */
	__u32 thread;
	__u32 what; /* 0 file read, 1 eviction, 2 checkpoint */
};

/* One query's way through reads and evictions. */
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

static __always_inline int sampled(void)
{
	return sample && duckbpf_thread_index() + bpf_get_prandom_u32() % sample == 0;
}

SEC("duckdb/file_read")
__u64 watch_reads(struct duckbpf_file_read_ctx *ctx)
{
	struct of_query *query;

	count(FILE_READ, ctx->duration_ns / 1000);
	count(READ_BYTES, ctx->bytes / 1024);
	query = of_query(ctx->origin.query_id);
	if (query) {
		__sync_fetch_and_add(&query->reads, 1);
		__sync_fetch_and_add(&query->read_bytes, ctx->bytes);
		__sync_fetch_and_add(&query->read_ns, ctx->duration_ns);
	}
	if (sampled())
		tell(&ctx->origin, 0, ctx->bytes);
	return 0;
}

SEC("duckdb/evict")
__u64 watch_evictions(struct duckbpf_evict_ctx *ctx)
{
	struct of_query *query = of_query(ctx->origin.query_id);

	if (query)
		__sync_fetch_and_add(&query->evictions, 1);
	if (sampled())
		tell(&ctx->origin, 1, ctx->size);
	return 0;
}

SEC("duckdb/checkpoint")
__u64 watch_checkpoints(struct duckbpf_checkpoint_ctx *ctx)
{
	if (ctx->site == DUCKBPF_CHECKPOINT_DONE) {
		count(CHECKPOINT, ctx->duration_ns / 1000);
		tell(&ctx->origin, 2, ctx->duration_ns);
	}
	return 0;
}

SEC("duckdb/log")
__u64 filter_log(struct duckbpf_log_ctx *ctx)
{
	return ctx->level < least_level ? DUCKBPF_LOG_DROPPED : 0;
}
