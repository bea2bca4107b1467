/* Another hash of integers: results must not change, their order may. The host mixes it. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 hash_types = DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT64);

SEC("duckdb/hash")
__u64 hash_weak(struct duckbpf_hash_ctx *ctx)
{
	return ctx->lo + 0x5851f42d4c957f2dULL;
}
