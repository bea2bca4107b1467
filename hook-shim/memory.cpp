//! The hookpoints of the buffer manager and of arenas: load, unpin, update_used_memory, allocate_new_block, and the hints that
//! load leaves on blocks.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "numbers.hpp"

#include "duckdb/storage/block_manager.hpp"
#include "duckdb/storage/buffer/block_handle.hpp"
#include "duckdb/storage/buffer/buffer_pool.hpp"
#include "duckdb/storage/buffer_manager.hpp"

#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> hints {0};

namespace {

Numbers files;

//===--------------------------------------------------------------------===//
// Hints
//===--------------------------------------------------------------------===//
//! What load said about blocks, beside them. Only blocks with a hint other than normal are in it.
class HintTable {
	static constexpr idx_t SHARDS = 64;

	struct alignas(64) Shard {
		std::mutex lock;
		std::unordered_map<const BlockMemory *, duckbpf_hint> hints;
	};

public:
	duckbpf_hint Get(const BlockMemory &memory) {
		if (!HintsInForce()) {
			return DUCKBPF_HINT_NONE;
		}
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto it = shard.hints.find(&memory);
		return it == shard.hints.end() ? DUCKBPF_HINT_NONE : it->second;
	}
	void Set(const BlockMemory &memory, duckbpf_hint hint) {
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto &entry = shard.hints[&memory];
		Count(entry, -1);
		entry = hint;
		Count(entry, 1);
	}
	void Erase(const BlockMemory &memory) {
		if (!HintsInForce()) {
			return;
		}
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto it = shard.hints.find(&memory);
		if (it != shard.hints.end()) {
			Count(it->second, -1);
			shard.hints.erase(it);
		}
	}
	void Clear() {
		for (auto &shard : shards) {
			const std::lock_guard<std::mutex> guard(shard.lock);
			for (auto &entry : shard.hints) {
				Count(entry.second, -1);
			}
			shard.hints.clear();
		}
	}
	idx_t Kept() const {
		return kept.load(std::memory_order_relaxed);
	}

private:
	Shard &ShardOf(const BlockMemory &memory) {
		return shards[(reinterpret_cast<uintptr_t>(&memory) * 0x9e3779b97f4a7c15ULL) >> 58];
	}
	void Count(duckbpf_hint hint, int64_t n) {
		if (hint != DUCKBPF_HINT_NONE) {
			hints.fetch_add(static_cast<idx_t>(n), std::memory_order_relaxed);
		}
		if (hint == DUCKBPF_HINT_KEEP) {
			kept.fetch_add(static_cast<idx_t>(n), std::memory_order_relaxed);
		}
	}

	static_assert(SHARDS == 1ULL << (64 - 58), "the shift in ShardOf must match");
	Shard shards[SHARDS];
	std::atomic<idx_t> kept {0};
};

HintTable hint_table;

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

template <class CTX>
void Describe(CTX &ctx, BlockHandle &block) {
	auto &memory = block.GetMemory();
	auto &pool = memory.GetBufferManager().GetBufferPool();
	ctx.block_id = memory.BlockId();
	ctx.file_id = files.Of(&block.GetBlockManager());
	ctx.size = memory.GetMemoryUsage();
	ctx.used_memory = pool.GetUsedMemory(false);
	ctx.max_memory = pool.GetMaxMemory();
	ctx.tag = static_cast<uint32_t>(memory.GetMemoryTag());
	ctx.buffer_type = static_cast<uint32_t>(memory.GetBufferType());
	ctx.hint = hint_table.Get(memory);
}

} // namespace

//===--------------------------------------------------------------------===//
// load
//===--------------------------------------------------------------------===//
void OnLoad(BlockHandle &block, bool hit) {
	ProgramCall call(DUCKBPF_HOOK_LOAD);
	if (!call.Has()) {
		return;
	}
	auto &memory = block.GetMemory();
	duckbpf_load_ctx ctx {};
	ctx.origin = call.Origin();
	Describe(ctx, block);
	ctx.hit = hit;
	call.CountLoad(hit);
	const auto decision = call.Run(ctx);
	if (decision == 0) {
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
		if (hint == DUCKBPF_HINT_NORMAL) {
			hint_table.Erase(memory);
		} else if (hint != ctx.hint) {
			hint_table.Set(memory, static_cast<duckbpf_hint>(hint));
		}
		call.Apply();
	}
}

void DropHints() {
	if (HintsInForce()) {
		hint_table.Clear();
	}
}

void ForgetBlock(const BlockMemory &memory) {
	hint_table.Erase(memory);
}

bool IsKept(const BlockMemory &memory) {
	return hint_table.Get(memory) == DUCKBPF_HINT_KEEP;
}

idx_t KeptBudget(idx_t live_entries) {
	//! Bounds what one allocation pays for looking past kept blocks
	static constexpr idx_t MAX_SKIPS = 4096;
	const auto kept = hint_table.Kept();
	return kept >= live_entries ? 0 : MinValue(kept, MAX_SKIPS);
}

void RegisterFile(const BlockManager &manager) {
	files.Renew(&manager);
}

//===--------------------------------------------------------------------===//
// unpin
//===--------------------------------------------------------------------===//
PrefetchScope::PrefetchScope() {
	Thread().prefetching++;
}

PrefetchScope::~PrefetchScope() {
	Thread().prefetching--;
}

//! What happens without a program: stock, and the hint `once`
static UnpinAction UndecidedUnpin(const BlockMemory &memory, int32_t readers) {
	UnpinAction action;
	action.unload = readers == 0 && HintsInForce() && hint_table.Get(memory) == DUCKBPF_HINT_ONCE && IsReloadable(memory);
	return action;
}

UnpinAction OnUnpin(BlockHandle &block, int32_t readers) {
	auto &memory = block.GetMemory();
	if (Thread().prefetching) {
		return {};
	}
	ProgramCall call(DUCKBPF_HOOK_UNPIN);
	if (!call.Has()) {
		return UndecidedUnpin(memory, readers);
	}
	const bool destroys = !memory.MustAddToEvictionQueue();
	duckbpf_unpin_ctx ctx {};
	ctx.origin = call.Origin();
	Describe(ctx, block);
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
void OnUpdateUsedMemory(const BufferPool &pool, uint32_t tag, int64_t delta) {
	ProgramCall call(DUCKBPF_HOOK_UPDATE_USED_MEMORY);
	if (!call.Has()) {
		return;
	}
	duckbpf_update_used_memory_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.delta = delta;
	ctx.used_memory = pool.GetUsedMemory(false);
	ctx.max_memory = pool.GetMaxMemory();
	ctx.tag = tag;
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

} // namespace duckbpf
