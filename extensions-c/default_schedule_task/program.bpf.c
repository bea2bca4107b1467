/* Stock: every task into the pool it was meant for, in the order of arrival (parallel/task_scheduler.cpp, ScheduleTask). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/schedule_task")
__u64 default_schedule_task(struct duckbpf_schedule_task_ctx *ctx)
{
	return DUCKBPF_SCHEDULE(ctx->pool, 0);
}
