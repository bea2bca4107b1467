/* Blocks that were loaded `threshold` times are kept longer: a count a block. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u32 threshold = 3;

struct {
	__uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
	__uint(max_entries, 65536);
	__type(value, __u64);
} loads SEC(".maps");

SEC("duckdb/load")
__u64 keep_hot(struct duckbpf_load_ctx *ctx)
{
	__u64 *count = duckbpf_block_storage_get(&loads, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!count)
		return DUCKBPF_LOAD(DUCKBPF_HINT_NORMAL);
	if (__sync_fetch_and_add(count, 1) + 1 >= threshold)
		return DUCKBPF_LOAD(DUCKBPF_HINT_KEEP);
	return DUCKBPF_LOAD(DUCKBPF_HINT_NORMAL);
}
