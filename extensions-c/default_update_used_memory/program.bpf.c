/* The hook only observes, and stock has nothing to say about it (storage/buffer/buffer_pool.cpp, UpdateUsedMemory). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/update_used_memory")
__u64 default_update_used_memory(struct duckbpf_update_used_memory_ctx *ctx)
{
	(void)ctx;
	return 0;
}
