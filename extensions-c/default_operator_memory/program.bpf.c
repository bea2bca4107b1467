/* Stock: what the temporary memory manager computed (storage/temporary_memory_manager.cpp). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/operator_memory")
__u64 default_operator_memory(struct duckbpf_operator_memory_ctx *ctx)
{
	return ctx->stock;
}
