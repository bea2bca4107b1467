/* Integer keys by the processor's CRC-32C instruction: the lower half of the hash is the key's checksum, the upper half that of the
 * key with its halves exchanged. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 hash_types = DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT64) |
				  DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_UINT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_UINT64);
const volatile __u32 hash_mixed = 1;

SEC("duckdb/hash")
__u64 crc_hash(struct duckbpf_hash_ctx *ctx)
{
	__u64 twice[2] = {ctx->lo, ctx->lo};
	__u64 low = duckbpf_crc32c(twice, sizeof(__u64), 0x2d358dcc);
	/* From its middle: the upper half, then the lower one. */
	__u64 high = duckbpf_crc32c((const char *)twice + sizeof(__u32), sizeof(__u64), 0x8bb84b93);

	return high << 32 | low;
}
