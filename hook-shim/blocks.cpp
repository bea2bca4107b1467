//! What is remembered of blocks, beside them: the hint that a program gave them, and their file, which a block's memory does not know.

#include "blocks.hpp"

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "numbers.hpp"

#include "duckdb/storage/block_manager.hpp"

#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> hints {0};

namespace {

Numbers files;

//! Only blocks of which something is remembered are in it
class BlockTable {
	static constexpr idx_t SHARDS = 64;

	struct alignas(64) Shard {
		std::mutex lock;
		std::unordered_map<const BlockMemory *, Remembered> blocks;
	};

public:
	Remembered Get(const BlockMemory &memory) {
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto it = shard.blocks.find(&memory);
		return it == shard.blocks.end() ? Remembered {} : it->second;
	}
	//! Changes what is remembered of a block. Without memory for it nothing is.
	template <class CHANGE>
	void Change(const BlockMemory &memory, CHANGE &&change) {
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto it = shard.blocks.find(&memory);
		if (it == shard.blocks.end()) {
			try {
				it = shard.blocks.emplace(&memory, Remembered {}).first;
			} catch (const std::bad_alloc &) {
				return;
			}
			hints.fetch_add(1, std::memory_order_relaxed);
		}
		Change(shard, it, change);
	}
	void Erase(const BlockMemory &memory) {
		auto &shard = ShardOf(memory);
		const std::lock_guard<std::mutex> guard(shard.lock);
		auto it = shard.blocks.find(&memory);
		if (it != shard.blocks.end()) {
			Change(shard, it, [](Remembered &block) { block = Remembered {}; });
		}
	}
	//! As Change, for every block
	template <class CHANGE>
	void ChangeAll(CHANGE &&change) {
		for (auto &shard : shards) {
			const std::lock_guard<std::mutex> guard(shard.lock);
			for (auto it = shard.blocks.begin(); it != shard.blocks.end();) {
				Change(shard, it++, change);
			}
		}
	}
	idx_t Kept() const {
		return kept.load(std::memory_order_relaxed);
	}

private:
	using Iterator = std::unordered_map<const BlockMemory *, Remembered>::iterator;

	Shard &ShardOf(const BlockMemory &memory) {
		return shards[(reinterpret_cast<uintptr_t>(&memory) * 0x9e3779b97f4a7c15ULL) >> 58];
	}
	template <class CHANGE>
	void Change(Shard &shard, Iterator it, CHANGE &&change) {
		auto &block = it->second;
		CountKept(block, -1);
		change(block);
		CountKept(block, 1);
		if (block.hint == DUCKBPF_HINT_NONE && block.file == 0) {
			shard.blocks.erase(it);
			hints.fetch_sub(1, std::memory_order_relaxed);
		}
	}
	void CountKept(const Remembered &block, int64_t n) {
		if (block.hint == DUCKBPF_HINT_KEEP) {
			kept.fetch_add(static_cast<idx_t>(n), std::memory_order_relaxed);
		}
	}

	static_assert(SHARDS == 1ULL << (64 - 58), "the shift in ShardOf must match");
	Shard shards[SHARDS];
	std::atomic<idx_t> kept {0};
};

BlockTable blocks;

} // namespace

Remembered RememberedOf(const BlockMemory &memory) {
	return HintsInForce() ? blocks.Get(memory) : Remembered {};
}

void SetHint(const BlockMemory &memory, duckbpf_hint hint) {
	blocks.Change(memory, [&](Remembered &block) { block.hint = hint; });
}

void SetFile(const BlockMemory &memory, uint64_t file) {
	blocks.Change(memory, [&](Remembered &block) { block.file = file; });
}

idx_t KeptBlocks() {
	return blocks.Kept();
}

uint64_t FileNumber(const BlockManager &manager) {
	return files.Of(&manager);
}

void EndBlock(const BlockManager &manager, int64_t block_id) {
	BlockEnded(files.Of(&manager), block_id);
}

void RegisterFile(const BlockManager &manager) {
	files.Renew(&manager);
}

void ForgetBlock(const BlockMemory &memory) {
	blocks.Erase(memory);
}

void ForgetWhatNobodyAsks() {
	const bool drop_hints = !Attached(DUCKBPF_HOOK_LOAD) && !Attached(DUCKBPF_HOOK_SCAN_BEGIN);
	const bool drop_files = !Attached(DUCKBPF_HOOK_EVICT);
	if (!HintsInForce() || (!drop_hints && !drop_files)) {
		return;
	}
	blocks.ChangeAll([&](Remembered &block) {
		if (drop_hints) {
			block.hint = DUCKBPF_HINT_NONE;
		}
		if (drop_files) {
			block.file = 0;
		}
	});
}

} // namespace duckbpf
