/* Blocks of a database file are needed once only. */
#include "duckbpf.h"

LICENSE("MIT");

#define FIRST_TEMPORARY_BLOCK (1LL << 62)

SEC("duckdb/load")
__u64 load_once(struct duckbpf_load_ctx *ctx)
{
	return DUCKBPF_LOAD(ctx->block_id < FIRST_TEMPORARY_BLOCK ? DUCKBPF_HINT_ONCE : DUCKBPF_HINT_NORMAL);
}
