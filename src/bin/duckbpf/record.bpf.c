/* What `duckbpf record` attaches: an event for each load, last unpin and eviction of a block of a database file. */
#include "duckbpf.h"

LICENSE("MIT");

/* In the order of Kind in replay/trace.rs. */
enum kind { HIT = 0, MISS = 1, UNPIN = 2, EVICT = 3 };

#define TEMPORARY (1LL << 62)
#define BLOCK 1

struct event {
	__u64 time_ns;
	__u64 query;
	__u64 file;
	__s64 block;
	__u64 size;
	__u64 used;
	__u64 limit;
	__u32 thread;
	__u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 25);
	__type(value, struct event);
} events SEC(".maps");

#define TELL(ctx, what)                                                                                                        \
	do {                                                                                                                   \
		struct event *event;                                                                                           \
		if ((ctx)->block_id >= TEMPORARY || (ctx)->buffer_type != BLOCK)                                               \
			return 0;                                                                                              \
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);                                                       \
		if (!event)                                                                                                    \
			return 0;                                                                                              \
		event->time_ns = bpf_ktime_get_ns();                                                                           \
		event->query = (ctx)->origin.query_id;                                                                         \
		event->file = (ctx)->file_id;                                                                                  \
		event->block = (ctx)->block_id;                                                                                \
		event->size = (ctx)->size;                                                                                     \
		event->used = (ctx)->used_memory;                                                                              \
		event->limit = (ctx)->max_memory;                                                                              \
		event->thread = (ctx)->origin.thread_index;                                                                    \
		event->kind = what;                                                                                            \
		bpf_ringbuf_submit(event, 0);                                                                                  \
	} while (0)

SEC("duckdb/load")
__u64 record_load(struct duckbpf_load_ctx *ctx)
{
	TELL(ctx, ctx->hit ? HIT : MISS);
	return 0;
}

SEC("duckdb/unpin")
__u64 record_unpin(struct duckbpf_unpin_ctx *ctx)
{
	if (ctx->readers == 0)
		TELL(ctx, UNPIN);
	return 0;
}

SEC("duckdb/evict")
__u64 record_evict(struct duckbpf_evict_ctx *ctx)
{
	TELL(ctx, EVICT);
	return 0;
}
