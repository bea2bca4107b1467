/* Writes an event for each block that was not in memory, or for one in `sample` of them. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u32 sample = 1;

struct event {
	__u64 time_ns;
	__u64 query_id;
	__s64 block_id;
	__u64 file_id;
	__u64 size;
	__u32 tag;
	__u32 thread;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct event);
} events SEC(".maps");

SEC("duckdb/load")
__u64 trace(struct duckbpf_load_ctx *ctx)
{
	struct event *event;

	if (ctx->hit || (sample > 1 && bpf_get_prandom_u32() % sample != 0))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->time_ns = bpf_ktime_get_ns();
	event->query_id = ctx->origin.query_id;
	event->block_id = ctx->block_id;
	event->file_id = ctx->file_id;
	event->size = ctx->size;
	event->tag = ctx->tag;
	event->thread = ctx->origin.thread_index;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
