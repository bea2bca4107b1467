/* Sweeps the eviction queue at every unpin. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/unpin")
__u64 unpin_purge(struct duckbpf_unpin_ctx *ctx)
{
	if (ctx->readers != 0 || ctx->destroy_upon == 2)
		return 0;
	return DUCKBPF_UNPIN_QUEUE | DUCKBPF_UNPIN_PURGE;
}
