/* Blocks of a database file leave memory as soon as nobody reads them. */
#include "duckbpf.h"

LICENSE("MIT");

#define DESTROY_UPON_UNPIN 2 /* common/enums/destroy_buffer_upon.hpp */

SEC("duckdb/unpin")
__u64 unpin_drop_scanned(struct duckbpf_unpin_ctx *ctx)
{
	if (ctx->readers != 0)
		return DUCKBPF_UNPIN_QUEUE;
	if (ctx->destroy_upon == DESTROY_UPON_UNPIN)
		return DUCKBPF_UNPIN_UNLOAD;
	if (ctx->persistent && ctx->hint != DUCKBPF_HINT_KEEP)
		return DUCKBPF_UNPIN_UNLOAD;
	return DUCKBPF_UNPIN_QUEUE;
}
