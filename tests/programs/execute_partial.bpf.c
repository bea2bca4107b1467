/* Every thread runs part of its task and puts it back. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/execute_forever")
__u64 execute_partial(struct duckbpf_execute_forever_ctx *ctx)
{
	return ctx->site == DUCKBPF_SITE_WORKER || ctx->site == DUCKBPF_SITE_CLIENT ? DUCKBPF_DECIDED | DUCKBPF_EXECUTE_PARTIAL : 0;
}
