/* Arenas grow by as little as they must. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/allocate_new_block")
__u64 arena_small(struct duckbpf_allocate_new_block_ctx *ctx)
{
	return ctx->min_size;
}
