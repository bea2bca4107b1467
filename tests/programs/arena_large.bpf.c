/* Arenas grow by as much as they may. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/allocate_new_block")
__u64 arena_large(struct duckbpf_allocate_new_block_ctx *ctx)
{
	return ctx->max_capacity;
}
