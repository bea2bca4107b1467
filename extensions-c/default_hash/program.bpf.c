/* DuckDB's own hash, bit for bit (common/types/hash.cpp, hash.hpp). */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 hash_types = DUCKBPF_TYPES_ALL;
const volatile __u32 hash_mixed = 1;

static __always_inline __u64 murmur64(__u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	return x;
}

SEC("duckdb/hash")
__u64 default_hash(struct duckbpf_hash_ctx *ctx)
{
	switch (ctx->type) {
	case DUCKBPF_TYPE_INT64:
	case DUCKBPF_TYPE_UINT64:
	case DUCKBPF_TYPE_DOUBLE:
		return murmur64(ctx->lo);
	case DUCKBPF_TYPE_VARCHAR:
		return ctx->whole;
	case DUCKBPF_TYPE_INT128:
	case DUCKBPF_TYPE_UINT128:
		return murmur64(ctx->lo) ^ murmur64(ctx->hi);
	case DUCKBPF_TYPE_INTERVAL:
		return murmur64((__s64)(__s32)ctx->hi) ^ murmur64((__s64)ctx->hi >> 32) ^ murmur64(ctx->lo);
	default: /* 32 bits and narrower */
		return murmur64((__u32)ctx->lo);
	}
}
