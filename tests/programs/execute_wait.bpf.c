/* A client waits 10 ms before each slice of its query. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/execute_forever")
__u64 execute_wait(struct duckbpf_execute_forever_ctx *ctx)
{
	if (ctx->site != DUCKBPF_SITE_CLIENT)
		return 0;
	return DUCKBPF_DECIDED | DUCKBPF_EXECUTE_PARTIAL | DUCKBPF_EXECUTE_WAIT_US(10000);
}
