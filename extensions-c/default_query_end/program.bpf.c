/* Stock: nobody looks. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/query_end")
__u64 default_query_end(struct duckbpf_query_end_ctx *ctx)
{
	(void)ctx;
	return 0;
}
