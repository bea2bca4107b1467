//! What is remembered of blocks, beside them. Private to hook-shim.
#pragma once

#include "call.hpp"

#include "duckdb/storage/buffer/block_handle.hpp"
#include "duckdb/storage/buffer/buffer_pool.hpp"
#include "duckdb/storage/buffer_manager.hpp"

namespace duckbpf {

struct Remembered {
	duckbpf_hint hint = DUCKBPF_HINT_NONE;
	//! Number of its file; 0 unless it joined a queue while evict had a program
	uint64_t file = 0;
};

Remembered RememberedOf(const duckdb::BlockMemory &memory);
void SetHint(const duckdb::BlockMemory &memory, duckbpf_hint hint);
void SetFile(const duckdb::BlockMemory &memory, uint64_t file);
//! How many blocks carry the hint `keep`
duckdb::idx_t KeptBlocks();
//! The small number of a block manager's file
uint64_t FileNumber(const duckdb::BlockManager &manager);

//! Fills what contexts tell of a block's memory
template <class CTX>
void DescribeMemory(CTX &ctx, duckdb::BlockMemory &memory, const Remembered &remembered) {
	auto &pool = memory.GetBufferManager().GetBufferPool();
	ctx.block_id = memory.BlockId();
	ctx.size = memory.GetMemoryUsage();
	ctx.used_memory = pool.GetUsedMemory(false);
	ctx.max_memory = pool.GetMaxMemory();
	ctx.tag = static_cast<uint32_t>(memory.GetMemoryTag());
	ctx.buffer_type = static_cast<uint32_t>(memory.GetBufferType());
	ctx.hint = remembered.hint;
}

template <class CTX>
void DescribeBlock(CTX &ctx, duckdb::BlockHandle &block) {
	DescribeMemory(ctx, block.GetMemory(), RememberedOf(block.GetMemory()));
	ctx.file_id = FileNumber(block.GetBlockManager());
}

} // namespace duckbpf
