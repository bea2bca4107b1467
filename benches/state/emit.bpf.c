/* An event of 16 bytes for each call. */
#include "duckbpf.h"

LICENSE("MIT");

struct event {
	__u64 block_id;
	__u64 size;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 28);
	__type(value, struct event);
} events SEC(".maps");

SEC("duckdb/load")
__u64 emit(struct duckbpf_load_ctx *ctx)
{
	struct event event = {.block_id = ctx->block_id, .size = ctx->size};

	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}
