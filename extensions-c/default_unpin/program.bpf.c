/* Stock: when the last reader lets go, into the eviction queue, or away with it if it must not outlive its readers
 * (storage/standard_buffer_manager.cpp, Unpin). */
#include "duckbpf.h"

LICENSE("MIT");

#define DESTROY_UPON_UNPIN 2 /* common/enums/destroy_buffer_upon.hpp */

SEC("duckdb/unpin")
__u64 default_unpin(struct duckbpf_unpin_ctx *ctx)
{
	if (ctx->readers == 0 && ctx->destroy_upon == DESTROY_UPON_UNPIN)
		return DUCKBPF_UNPIN_UNLOAD;
	return DUCKBPF_UNPIN_QUEUE;
}
