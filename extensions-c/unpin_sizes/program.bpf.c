/* A histogram by query and memory tag of the sizes of blocks that lose their last reader. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

struct kind {
	__u64 query_id;
	__u32 tag;
	__u32 log2_size;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct kind);
	__type(value, __u64);
} sizes SEC(".maps");

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

SEC("duckdb/unpin")
__u64 count_size(struct duckbpf_unpin_ctx *ctx)
{
	struct kind kind = {
		.query_id = ctx->origin.query_id,
		.tag = ctx->tag,
		.log2_size = log2_of(ctx->size),
	};
	__u64 one = 1, *count;

	if (ctx->readers != 0)
		return 0;
	count = bpf_map_lookup_elem(&sizes, &kind);
	if (count)
		__sync_fetch_and_add(count, 1);
	else if (bpf_map_update_elem(&sizes, &kind, &one, BPF_NOEXIST) != 0) {
		/* Another thread was faster. */
		count = bpf_map_lookup_elem(&sizes, &kind);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}
