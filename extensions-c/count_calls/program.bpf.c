/* Counts every call, in a value a thread and hook. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DUCKBPF_HOOK_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

static __always_inline __u64 count(__u32 hook)
{
	__u64 *n = bpf_map_lookup_elem(&calls, &hook);

	if (n)
		*n += 1;
	return 0;
}

SEC("duckdb/schedule_task")
__u64 count_schedule_task(struct duckbpf_schedule_task_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_SCHEDULE_TASK);
}

SEC("duckdb/execute_forever")
__u64 count_execute_forever(struct duckbpf_execute_forever_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_EXECUTE_FOREVER);
}

SEC("duckdb/run_task")
__u64 count_run_task(struct duckbpf_run_task_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_RUN_TASK);
}

SEC("duckdb/query_begin")
__u64 count_query_begin(struct duckbpf_query_begin_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_QUERY_BEGIN);
}

SEC("duckdb/query_end")
__u64 count_query_end(struct duckbpf_query_end_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_QUERY_END);
}

SEC("duckdb/pipeline_threads")
__u64 count_pipeline_threads(struct duckbpf_pipeline_threads_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_PIPELINE_THREADS);
}

SEC("duckdb/operator_memory")
__u64 count_operator_memory(struct duckbpf_operator_memory_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_OPERATOR_MEMORY);
}

SEC("duckdb/load")
__u64 count_load(struct duckbpf_load_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_LOAD);
}

SEC("duckdb/update_used_memory")
__u64 count_update_used_memory(struct duckbpf_update_used_memory_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_UPDATE_USED_MEMORY);
}

SEC("duckdb/allocate_new_block")
__u64 count_allocate_new_block(struct duckbpf_allocate_new_block_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_ALLOCATE_NEW_BLOCK);
}

SEC("duckdb/unpin")
__u64 count_unpin(struct duckbpf_unpin_ctx *ctx)
{
	(void)ctx;
	return count(DUCKBPF_HOOK_UNPIN);
}
