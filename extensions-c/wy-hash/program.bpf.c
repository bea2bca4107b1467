/* Integer keys by one multiplication to 128 bits, whose halves are folded: the step that wyhash is made of. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 hash_types = DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT64) |
				  DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_UINT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_UINT64) |
				  DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT128) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_UINT128);
const volatile __u32 hash_mixed = 1;

SEC("duckdb/hash")
__u64 wy_hash(struct duckbpf_hash_ctx *ctx)
{
	return duckbpf_mul128_fold(ctx->lo ^ 0x2d358dccaa6c78a5ULL, ctx->hi ^ 0x8bb84b93962eacc9ULL);
}
