/* S3-FIFO (Yang and others, SOSP 2023) on DuckDB's eviction queue: a small part for newcomers, a main part, and ghosts.
 *
 * DuckDB has one queue for blocks of files. Which part a block is in is written beside it, and a candidate of the part that is
 * not to give way now is passed over. A value outlives its block's stay in memory: that is the ghost. */
#include "duckbpf.h"

LICENSE("MIT");

/* Of the blocks in memory, the small part: percent. */
const volatile __u32 small_percent = 10;
/* Below so much of the memory limit nothing is noted: there is nothing to evict. Percent. */
const volatile __u32 full_percent = 50;

/* Blocks from here on are of no file: they go when DuckDB is done with them, and are in no part. */
#define TEMPORARY (1LL << 62)

enum part { NOWHERE = 0, SMALL = 1, MAIN = 2, GHOST = 3 };

struct block {
	__u64 last_query; /* a query's many pins of a block count once */
	__u64 ghost_at;   /* GHOST: blocks that had come in when it went */
	__u32 part;
	__u32 uses; /* up to 3 */
};

struct {
	__uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(value, struct block);
} s3_fifo_blocks SEC(".maps");

enum sum { SMALL_BLOCKS = 0, MAIN_BLOCKS = 1, ARRIVALS = 2, SUMS = 3 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SUMS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} s3_fifo_sums SEC(".maps");

static __always_inline __u64 *sum(__u32 index)
{
	return bpf_map_lookup_elem(&s3_fifo_sums, &index);
}

static __always_inline void add(__u32 index, __s64 change)
{
	__u64 *value = sum(index);

	if (value)
		__sync_fetch_and_add(value, change);
}

static __always_inline __u64 read_sum(__u32 index)
{
	__u64 *value = sum(index);

	return value && (__s64)*value > 0 ? *value : 0;
}

SEC("duckdb/load")
__u64 s3_fifo_load(struct duckbpf_load_ctx *ctx)
{
	struct block *block;

	if (ctx->block_id >= TEMPORARY || ctx->used_memory < ctx->max_memory / 100 * full_percent)
		return 0;
	block = duckbpf_block_storage_get(&s3_fifo_blocks, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!block)
		return 0;
	if (ctx->hit && (block->part == SMALL || block->part == MAIN)) {
		if (block->last_query != ctx->origin.query_id) {
			block->last_query = ctx->origin.query_id;
			if (block->uses < 3)
				block->uses++;
		}
		return 0;
	}
	/* It left without evict's knowledge. */
	if (block->part == SMALL)
		add(SMALL_BLOCKS, -1);
	if (block->part == MAIN)
		add(MAIN_BLOCKS, -1);
	/* Ghosts are remembered for as many arrivals as the main part has blocks. */
	if (block->part == GHOST && read_sum(ARRIVALS) - block->ghost_at <= read_sum(MAIN_BLOCKS) + read_sum(SMALL_BLOCKS)) {
		block->part = MAIN;
		add(MAIN_BLOCKS, 1);
	} else {
		block->part = SMALL;
		add(SMALL_BLOCKS, 1);
	}
	add(ARRIVALS, 1);
	block->uses = 0;
	block->last_query = ctx->origin.query_id;
	return 0;
}

SEC("duckdb/evict")
__u64 s3_fifo_evict(struct duckbpf_evict_ctx *ctx)
{
	struct block *block = duckbpf_block_storage_get(&s3_fifo_blocks, ctx, 0, 0);
	__u64 small, blocks;
	int small_gives, last;

	if (!block || (block->part != SMALL && block->part != MAIN))
		return DUCKBPF_EVICT_NOW;
	small = read_sum(SMALL_BLOCKS);
	blocks = small + read_sum(MAIN_BLOCKS);
	small_gives = small * 100 >= blocks * small_percent;
	last = ctx->skips >= DUCKBPF_EVICT_MAX_SKIPS;

	if (block->part == SMALL) {
		if (block->uses > 0 && !last) {
			block->part = MAIN;
			block->uses = 0;
			add(SMALL_BLOCKS, -1);
			add(MAIN_BLOCKS, 1);
			return DUCKBPF_EVICT_SKIP;
		}
		if (!small_gives && !last)
			return DUCKBPF_EVICT_SKIP;
		add(SMALL_BLOCKS, -1);
		block->part = GHOST;
		block->ghost_at = read_sum(ARRIVALS);
		return DUCKBPF_EVICT_NOW;
	}
	if (small_gives && !last)
		return DUCKBPF_EVICT_SKIP;
	if (block->uses > 0 && !last) {
		block->uses--;
		return DUCKBPF_EVICT_SKIP;
	}
	add(MAIN_BLOCKS, -1);
	block->part = NOWHERE;
	return DUCKBPF_EVICT_NOW;
}
