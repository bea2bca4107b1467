/* A part of the memory belongs to blocks that several queries wanted; what one scan reads passes through the rest. */
#include "duckbpf.h"

LICENSE("MIT");

/* Of memory_limit, for blocks that stay: percent. */
const volatile __u32 stay_percent = 92;
/* A block that so many queries wanted lately is spared, whatever stays. */
const volatile __u32 hot_queries = 4;
/* "Lately" is an epoch: until as much was read as memory holds. A block that stays and that nobody wanted for so many epochs goes. */
const volatile __u64 cold_epochs = 4;

/* Blocks from here on are of no file. */
#define TEMPORARY (1LL << 62)

struct block {
	__u64 last_query;
	__u64 epoch;    /* in which it was wanted last */
	__u32 lately;   /* queries that wanted it in that epoch */
	__u32 queries;  /* that wanted it at all, up to 255 */
	__u64 stays;    /* its bytes, if it is one of those that stay */
};

struct {
	__uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(value, struct block);
} scan_resistant_blocks SEC(".maps");

struct sums {
	__u64 read;    /* bytes */
	__u64 staying; /* bytes */
};

/* By file: nobody is told when a file is detached and its blocks are gone, and its number does not come back. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64);
	__type(value, struct sums);
} scan_resistant_files SEC(".maps");

static __always_inline struct sums *sums_of(__u64 file)
{
	struct sums none = {0, 0};
	__u64 key = file;
	struct sums *found = bpf_map_lookup_elem(&scan_resistant_files, &key);

	if (found)
		return found;
	bpf_map_update_elem(&scan_resistant_files, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&scan_resistant_files, &key);
}

SEC("duckdb/load")
__u64 note(struct duckbpf_load_ctx *ctx)
{
	struct block *block;
	struct sums *sums;
	__u64 epoch;

	if (ctx->block_id >= TEMPORARY)
		return 0;
	block = duckbpf_block_storage_get(&scan_resistant_blocks, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!block)
		return 0;
	if (ctx->hit && block->last_query == ctx->origin.query_id)
		return 0;
	sums = sums_of(ctx->file_id);
	if (!sums)
		return 0;
	if (!ctx->hit)
		__sync_fetch_and_add(&sums->read, ctx->size);
	epoch = sums->read / (ctx->max_memory ? ctx->max_memory : 1);
	if (block->last_query == ctx->origin.query_id)
		return 0;
	if (block->epoch != epoch)
		block->lately = 0;
	block->last_query = ctx->origin.query_id;
	block->epoch = epoch;
	block->lately++;
	if (block->queries < 255)
		block->queries++;
	if (!block->stays && block->queries > 1 && sums->staying + ctx->size <= ctx->max_memory / 100 * stay_percent) {
		block->stays = ctx->size;
		__sync_fetch_and_add(&sums->staying, ctx->size);
	}
	return 0;
}

SEC("duckdb/evict")
__u64 spare(struct duckbpf_evict_ctx *ctx)
{
	struct block *block;
	struct sums *sums;
	__u64 epoch;

	block = duckbpf_block_storage_get(&scan_resistant_blocks, ctx, 0, 0);
	sums = sums_of(ctx->file_id);
	if (!block || !sums)
		return DUCKBPF_EVICT_NOW;
	epoch = sums->read / (ctx->max_memory ? ctx->max_memory : 1);
	if (ctx->skips < DUCKBPF_EVICT_MAX_SKIPS) {
		if (block->stays && block->epoch + cold_epochs >= epoch)
			return DUCKBPF_EVICT_SKIP;
		if (block->epoch == epoch && block->lately >= hot_queries)
			return DUCKBPF_EVICT_SKIP;
	}
	if (block->stays) {
		__sync_fetch_and_add(&sums->staying, -block->stays);
		block->stays = 0;
	}
	return DUCKBPF_EVICT_NOW;
}
