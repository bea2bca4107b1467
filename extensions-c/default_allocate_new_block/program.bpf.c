/* Stock: twice the newest chunk, at most 16 MiB, more only when what is asked for needs it
 * (storage/arena_allocator.cpp, AllocateNewBlock). */
#include "duckbpf.h"

LICENSE("MIT");

/* Doubles capacity `steps` times if it is too small even then. Without a loop: forward jumps only. */
#define DOUBLE_WHILE_SMALL(steps)                                                                                      \
	if (capacity <= (min_size - 1) >> (steps))                                                                         \
	capacity <<= (steps)

SEC("duckdb/allocate_new_block")
__u64 default_allocate_new_block(struct duckbpf_allocate_new_block_ctx *ctx)
{
	__u64 min_size = ctx->min_size;
	__u64 capacity = ctx->previous_capacity ? ctx->previous_capacity : ctx->initial_capacity;

	if (capacity > ctx->max_capacity)
		capacity = ctx->max_capacity;
	if (capacity < ctx->max_capacity)
		capacity *= 2;
	if (capacity < min_size) {
		DOUBLE_WHILE_SMALL(32);
		DOUBLE_WHILE_SMALL(16);
		DOUBLE_WHILE_SMALL(8);
		DOUBLE_WHILE_SMALL(4);
		DOUBLE_WHILE_SMALL(2);
		DOUBLE_WHILE_SMALL(1);
		capacity <<= 1; /* it is the largest that is too small */
	}
	return capacity;
}
