//! The hookpoints of the buffer manager and of arenas: load, unpin, update_used_memory, allocate_new_block.

#include "blocks.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"

#include "duckdb/storage/block_manager.hpp"
#include "duckdb/storage/buffer/block_handle.hpp"
#include "duckdb/storage/buffer/buffer_pool.hpp"
#include "duckdb/storage/buffer_manager.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

bool IsPersistent(const BlockMemory &memory) {
	return memory.BlockId() < MAXIMUM_BLOCK;
}

//! Its memory can go and its content be read again from the database file
bool IsReloadable(const BlockMemory &memory) {
	return IsPersistent(memory) && memory.CanReload() && memory.GetBufferType() == FileBufferType::BLOCK;
}

//! Whether a block may carry the hint
bool Accepts(const BlockMemory &memory, uint64_t hint) {
	switch (hint) {
	case DUCKBPF_HINT_ONCE:
		return IsReloadable(memory);
	case DUCKBPF_HINT_KEEP:
		return memory.GetBufferType() != FileBufferType::TINY_BUFFER;
	default:
		return true;
	}
}

} // namespace

//===--------------------------------------------------------------------===//
// load
//===--------------------------------------------------------------------===//
//! What happens without a program: the hint of the scan
static void UndecidedLoad(const BlockMemory &memory) {
	const auto hint = Thread().scan_hint;
	if (hint == DUCKBPF_HINT_NONE) {
		return;
	}
	const auto wanted = hint == DUCKBPF_HINT_NORMAL ? DUCKBPF_HINT_NONE : hint;
	if (RememberedOf(memory).hint != wanted && Accepts(memory, wanted)) {
		SetHint(memory, wanted);
	}
}

void OnLoad(BlockHandle &block, bool hit) {
	ProgramCall call(DUCKBPF_HOOK_LOAD);
	if (!call.Has()) {
		UndecidedLoad(block.GetMemory());
		return;
	}
	auto &memory = block.GetMemory();
	duckbpf_load_ctx ctx {};
	ctx.origin = call.Origin();
	DescribeBlock(ctx, block);
	ctx.hit = hit;
	call.CountLoad(hit);
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		UndecidedLoad(memory);
		return;
	}
	const auto hint = DUCKBPF_LOAD_HINT(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_LOAD_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
	} else if (hint == DUCKBPF_HINT_NONE || hint >= DUCKBPF_HINT_COUNT) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
	} else if (!Accepts(memory, hint)) {
		call.Refuse(DUCKBPF_REFUSED_NOT_RELOADABLE);
	} else {
		const auto wanted = hint == DUCKBPF_HINT_NORMAL ? DUCKBPF_HINT_NONE : static_cast<duckbpf_hint>(hint);
		if (wanted != ctx.hint) {
			SetHint(memory, wanted);
		}
		call.Apply();
	}
}

bool IsKept(const BlockMemory &memory) {
	return RememberedOf(memory).hint == DUCKBPF_HINT_KEEP;
}

idx_t KeptBudget(idx_t live_entries) {
	//! Bounds what one allocation pays for looking past kept blocks
	static constexpr idx_t MAX_SKIPS = 4096;
	const auto kept = KeptBlocks();
	return kept >= live_entries ? 0 : MinValue(kept, MAX_SKIPS);
}

//===--------------------------------------------------------------------===//
// unpin
//===--------------------------------------------------------------------===//
//! What happens without a program: stock, and the hint `once`
static UnpinAction UndecidedUnpin(const BlockMemory &memory, int32_t readers) {
	UnpinAction action;
	action.unload = readers == 0 && RememberedOf(memory).hint == DUCKBPF_HINT_ONCE && IsReloadable(memory);
	return action;
}

UnpinAction OnUnpin(BlockHandle &block, int32_t readers) {
	auto &memory = block.GetMemory();
	if (local.prefetching) {
		return {};
	}
	ProgramCall call(DUCKBPF_HOOK_UNPIN);
	if (!call.Has()) {
		return UndecidedUnpin(memory, readers);
	}
	const bool destroys = !memory.MustAddToEvictionQueue();
	duckbpf_unpin_ctx ctx {};
	ctx.origin = call.Origin();
	DescribeBlock(ctx, block);
	ctx.readers = readers;
	ctx.destroy_upon = destroys ? 2 : memory.CanReload() ? 0 : 1;
	ctx.persistent = IsPersistent(memory);
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return UndecidedUnpin(memory, readers);
	}
	const bool unload = (decision & DUCKBPF_UNPIN_UNLOAD) == DUCKBPF_UNPIN_UNLOAD;
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_UNPIN_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return UndecidedUnpin(memory, readers);
	}
	if (unload && readers != 0) {
		call.Refuse(DUCKBPF_REFUSED_PINNED);
		return UndecidedUnpin(memory, readers);
	}
	if (readers == 0 && (unload ? !destroys && !IsReloadable(memory) : destroys)) {
		call.Refuse(DUCKBPF_REFUSED_NOT_RELOADABLE);
		return UndecidedUnpin(memory, readers);
	}
	call.Apply();
	UnpinAction action;
	action.unload = unload;
	action.purge = decision & DUCKBPF_UNPIN_PURGE;
	return action;
}

//===--------------------------------------------------------------------===//
// update_used_memory
//===--------------------------------------------------------------------===//
void OnUpdateUsedMemory(const BufferPool &pool, MemoryTag tag, int64_t delta) {
	if (tag != MemoryTag::BASE_TABLE && Attached(DUCKBPF_HOOK_QUERY_END)) {
		CountMemory(delta);
	}
	if (!Attached(DUCKBPF_HOOK_UPDATE_USED_MEMORY)) {
		return;
	}
	ProgramCall call(DUCKBPF_HOOK_UPDATE_USED_MEMORY);
	if (!call.Has()) {
		return;
	}
	duckbpf_update_used_memory_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.delta = delta;
	ctx.used_memory = pool.GetUsedMemory(false);
	ctx.max_memory = pool.GetMaxMemory();
	ctx.tag = static_cast<uint32_t>(tag);
	call.Run(ctx);
}

//===--------------------------------------------------------------------===//
// allocate_new_block
//===--------------------------------------------------------------------===//
idx_t DecideCapacity(const ArenaGrowth &growth, idx_t stock) {
	ProgramCall call(DUCKBPF_HOOK_ALLOCATE_NEW_BLOCK);
	if (!call.Has()) {
		return stock;
	}
	duckbpf_allocate_new_block_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.min_size = growth.min_size;
	ctx.initial_capacity = growth.initial_capacity;
	ctx.previous_capacity = growth.previous_capacity;
	ctx.total_allocated = growth.total_allocated;
	ctx.max_capacity = growth.max_capacity;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return stock;
	}
	const auto most = MaxValue(stock, MinValue(4 * stock, growth.max_capacity));
	const auto least = MaxValue<idx_t>(growth.min_size, 1);
	const auto capacity = MinValue(MaxValue<idx_t>(decision, least), most);
	if (capacity == decision) {
		call.Apply();
	} else {
		call.Refuse(DUCKBPF_REFUSED_CLAMPED);
	}
	return capacity;
}

//===--------------------------------------------------------------------===//
// What a hookpoint costs
//===--------------------------------------------------------------------===//
//! A hookpoint like the others here, with made-up numbers
static __attribute__((noinline)) void MeasuredHookpoint(uint64_t pass) {
	ProgramCall call(DUCKBPF_HOOK_LOAD);
	if (!call.Has()) {
		return;
	}
	duckbpf_load_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.block_id = pass;
	ctx.file_id = 1;
	ctx.size = 1 << 18;
	ctx.used_memory = pass << 12;
	ctx.max_memory = 1ULL << 40;
	ctx.tag = 1;
	ctx.buffer_type = 1;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return;
	}
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_LOAD_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
	} else {
		call.Apply();
	}
}

__u64 Measure(__u64 passes) {
	const auto begin = NowNs();
	for (uint64_t pass = 0; pass < passes; pass++) {
		if (Attached(DUCKBPF_HOOK_LOAD)) {
			MeasuredHookpoint(pass);
		}
	}
	return NowNs() - begin;
}

} // namespace duckbpf
