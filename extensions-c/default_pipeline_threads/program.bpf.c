/* Stock: as many tasks as the operators and the scheduler allow (parallel/pipeline.cpp). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/pipeline_threads")
__u64 default_pipeline_threads(struct duckbpf_pipeline_threads_ctx *ctx)
{
	return DUCKBPF_THREADS(ctx->max_threads);
}
