/* A histogram by query of the sizes of blocks that give way for its memory. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

struct kind {
	__u64 query_id; /* of whoever needs the memory */
	__u64 log2_size;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct kind);
	__type(value, __u64);
} evicted SEC(".maps");

static __always_inline __u64 log2_of(__u64 value)
{
	__u64 log = 0;

	if (value >> 32) { log += 32; value >>= 32; }
	if (value >> 16) { log += 16; value >>= 16; }
	if (value >> 8) { log += 8; value >>= 8; }
	if (value >> 4) { log += 4; value >>= 4; }
	if (value >> 2) { log += 2; value >>= 2; }
	return log + (value >> 1);
}

SEC("duckdb/evict")
__u64 count_size(struct duckbpf_evict_ctx *ctx)
{
	struct kind kind = {.query_id = ctx->origin.query_id, .log2_size = log2_of(ctx->size)};
	__u64 zero = 0, *count = bpf_map_lookup_elem(&evicted, &kind);

	if (!count) {
		/* Another thread may be faster: then it is there too. */
		bpf_map_update_elem(&evicted, &kind, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&evicted, &kind);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
