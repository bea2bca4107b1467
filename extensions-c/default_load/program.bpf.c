/* Stock: every block is as good as any other (storage/buffer/block_handle.cpp, BlockHandle::Load). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/load")
__u64 default_load(struct duckbpf_load_ctx *ctx)
{
	(void)ctx;
	return DUCKBPF_LOAD(DUCKBPF_HINT_NORMAL);
}
