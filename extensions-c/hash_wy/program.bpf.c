/* A hash after wyhash: 64x64->128 bit multiplications whose halves are folded into one. BPF has no such multiplication, so
 * each is put together from four of 32 bits. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 hash_types = DUCKBPF_TYPES_ALL;
const volatile __u32 hash_mixed = 1;

/* Lower half ^ upper half of a * (high << 32 | low), both below 2^31: they fit an instruction's immediate. */
static __always_inline __u64 multiply_fold(__u64 a, __u64 high, __u64 low)
{
	__u64 a_low = (__u32)a;
	__u64 a_high = a >> 32;
	__u64 middle = a_high * low + (a_low * low >> 32);
	__u64 upper = a_high * high + (middle >> 32) + ((a_low * high + (__u32)middle) >> 32);

	return a * (high << 32 | low) ^ upper;
}

SEC("duckdb/hash")
__u64 hash_wy(struct duckbpf_hash_ctx *ctx)
{
	__u64 key = (ctx->lo ^ 0xa0761d6478bd642fULL) + ctx->hi * 0x9e3779b97f4a7c15ULL;
	__u64 hash = multiply_fold(key, 0x4b33a62f, 0x2d358dcd);

	return multiply_fold(hash ^ ctx->whole ^ ctx->len, 0x1d8e4e27, 0x7c47d437);
}
