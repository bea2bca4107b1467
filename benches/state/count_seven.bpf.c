/* Counts the calls of six hooks, in a value a thread and hook; beside it the host counts those of hash. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DUCKBPF_HOOK_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

#define COUNT(hook, number)                                                                                                    \
	SEC("duckdb/" #hook)                                                                                                   \
	__u64 count_##hook(struct duckbpf_##hook##_ctx *ctx)                                                                   \
	{                                                                                                                      \
		__u32 key = number;                                                                                            \
		__u64 *n = bpf_map_lookup_elem(&calls, &key);                                                                  \
                                                                                                                               \
		(void)ctx;                                                                                                     \
		if (n)                                                                                                         \
			*n += 1;                                                                                               \
		return 0;                                                                                                      \
	}

COUNT(schedule_task, DUCKBPF_HOOK_SCHEDULE_TASK)
COUNT(execute_forever, DUCKBPF_HOOK_EXECUTE_FOREVER)
COUNT(load, DUCKBPF_HOOK_LOAD)
COUNT(update_used_memory, DUCKBPF_HOOK_UPDATE_USED_MEMORY)
COUNT(allocate_new_block, DUCKBPF_HOOK_ALLOCATE_NEW_BLOCK)
COUNT(unpin, DUCKBPF_HOOK_UNPIN)
