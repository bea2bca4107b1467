/* Tasks of young queries run before those of old ones: the class grows with the query's age. */
#include "duckbpf.h"

LICENSE("MIT");

#define MILLISECOND 1000000ULL

SEC("duckdb/schedule_task")
__u64 schedule_young_first(struct duckbpf_schedule_task_ctx *ctx)
{
	__u64 klass = 0;
	__u64 age;

	/* Alone there is nobody to let pass; and others wait for what the async pool reads. */
	if (ctx->active_queries < 2 || ctx->pool == DUCKBPF_POOL_ASYNC)
		return DUCKBPF_SCHEDULE(ctx->pool, 0);

	age = duckbpf_query_age_ns();
	if (age >= 50 * MILLISECOND)
		klass = 1;
	if (age >= 200 * MILLISECOND)
		klass = 2;
	if (age >= 800 * MILLISECOND)
		klass = 3;
	if (age >= 3200 * MILLISECOND)
		klass = 4;
	if (age >= 12800 * MILLISECOND)
		klass = 5;
	return DUCKBPF_SCHEDULE(ctx->pool, klass);
}
