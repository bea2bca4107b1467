/* As jump, and costly: too much for its hook where it may go on in itself. */
#include "duckbpf.h"

LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} stages SEC(".maps");

__u64 newest;

SEC("duckdb/load")
__u64 jump_far(struct duckbpf_load_ctx *ctx)
{
	__u32 i;

	bpf_for(i, 0, 40)
		newest = bpf_ktime_get_ns();
	bpf_tail_call(ctx, &stages, 1);
	return 0;
}
