/* Every thread runs its tasks whole. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/execute_forever")
__u64 execute_whole(struct duckbpf_execute_forever_ctx *ctx)
{
	return ctx->site == DUCKBPF_SITE_WORKER || ctx->site == DUCKBPF_SITE_CLIENT ? DUCKBPF_DECIDED : 0;
}
