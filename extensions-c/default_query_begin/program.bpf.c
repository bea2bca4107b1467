/* Stock: every query begins at once. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/query_begin")
__u64 default_query_begin(struct duckbpf_query_begin_ctx *ctx)
{
	(void)ctx;
	return DUCKBPF_ADMIT(0, 0);
}
