//! The hookpoints of the eviction queues: evict and queue_insert.

#include "blocks.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"

#include "duckdb/storage/block_manager.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

//===--------------------------------------------------------------------===//
// evict
//===--------------------------------------------------------------------===//
void RememberFile(BlockHandle &block) {
	const auto &memory = block.GetMemory();
	const auto file = FileNumber(block.GetBlockManager());
	if (RememberedOf(memory).file != file) {
		SetFile(memory, file);
	}
}

bool SkipsCandidate(BlockMemory &memory, uint32_t skips) {
	ProgramCall call(DUCKBPF_HOOK_EVICT);
	if (!call.Has()) {
		return false;
	}
	const auto remembered = RememberedOf(memory);
	duckbpf_evict_ctx ctx {};
	ctx.origin = call.Origin();
	DescribeMemory(ctx, memory, remembered);
	ctx.file_id = remembered.file;
	ctx.skips = skips;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return false;
	}
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_EVICT_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return false;
	}
	const bool skip = decision == DUCKBPF_EVICT_SKIP;
	if (skip && skips >= DUCKBPF_EVICT_MAX_SKIPS) {
		call.Refuse(DUCKBPF_REFUSED_CLAMPED);
		return false;
	}
	call.Apply();
	return skip;
}

//===--------------------------------------------------------------------===//
// queue_insert
//===--------------------------------------------------------------------===//
//! The queue of so many that a block's index means (BufferPool::GetEvictionQueueForBlockMemory), and back
static idx_t QueueOfIndex(idx_t index, idx_t queues) {
	return index < queues ? queues - index - 1 : 0;
}

void ChooseQueue(BlockHandle &block, idx_t queues) {
	ProgramCall call(DUCKBPF_HOOK_QUEUE_INSERT);
	if (!call.Has()) {
		return;
	}
	auto &memory = block.GetMemory();
	duckbpf_queue_insert_ctx ctx {};
	ctx.origin = call.Origin();
	DescribeBlock(ctx, block);
	ctx.queue = static_cast<uint32_t>(QueueOfIndex(memory.GetEvictionQueueIndex(), queues));
	ctx.queues = static_cast<uint32_t>(queues);
	// Entries are numbered from 1.
	ctx.first = memory.GetEvictionSequenceNumber() == 0;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return;
	}
	const auto queue = DUCKBPF_QUEUE_INSERT_QUEUE(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_QUEUE_INSERT_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
	} else if (queue >= queues) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
	} else if (queue != ctx.queue && !ctx.first) {
		call.Refuse(DUCKBPF_REFUSED_WRONG_SITE);
	} else {
		if (queue != ctx.queue) {
			memory.SetEvictionQueueIndex(queues - queue - 1);
		}
		call.Apply();
	}
}

} // namespace duckbpf
