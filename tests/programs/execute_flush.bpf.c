/* Idle workers flush and are marked idle; the client is asked for what it cannot do. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/execute_forever")
__u64 execute_flush(struct duckbpf_execute_forever_ctx *ctx)
{
	switch (ctx->site) {
	case DUCKBPF_SITE_CLIENT:
		return DUCKBPF_DECIDED | DUCKBPF_EXECUTE_FLUSH;
	case DUCKBPF_SITE_IDLE:
		return DUCKBPF_DECIDED | (ctx->flush_supported ? DUCKBPF_EXECUTE_FLUSH | DUCKBPF_EXECUTE_MARK_IDLE : 0);
	default:
		return 0;
	}
}
