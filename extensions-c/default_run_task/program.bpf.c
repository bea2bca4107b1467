/* Stock: whoever comes runs, as long as DuckDB lets it (parallel/executor.cpp, task_scheduler.cpp). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/run_task")
__u64 default_run_task(struct duckbpf_run_task_ctx *ctx)
{
	return DUCKBPF_RUN(ctx->klass, 0);
}
