/* Goes on in whatever lies in an array that the process keeps. */
#include "duckbpf.h"

LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} stages SEC(".maps");

SEC("duckdb/load")
__u64 jump(struct duckbpf_load_ctx *ctx)
{
	bpf_tail_call(ctx, &stages, 0);
	return DUCKBPF_LOAD(DUCKBPF_HINT_KEEP);
}
