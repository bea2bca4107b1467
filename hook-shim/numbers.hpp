//! Small numbers for objects that have none: databases, files. Private to hook-shim.
#pragma once

#include <atomic>
#include <cstdint>

namespace duckbpf {

//! Numbers objects by their address, from 1 up, each number once in the life of the process. An object that was there before
//! the graft gets its number when it is first met; one that is born gets a new number for its address, so that nobody inherits
//! the number of a dead object. Lock-free: hookpoints ask under a block's lock.
//!
//! Addresses are never taken out, they are few and come back. Should they ever fill the table, further objects stay unknown: 0.
class Numbers {
public:
	uint64_t Of(const void *object) {
		auto slot = Find(object);
		return slot ? slot->number.load(std::memory_order_relaxed) : 0;
	}
	void Renew(const void *object) {
		if (auto slot = Find(object)) {
			slot->number.store(NextNumber(), std::memory_order_relaxed);
		}
	}

private:
	static constexpr uint64_t SLOTS = 4096;
	static constexpr uint64_t PROBES = 64;

	struct Slot {
		std::atomic<const void *> object {nullptr};
		std::atomic<uint64_t> number {0};
	};

	uint64_t NextNumber() {
		return newest.fetch_add(1, std::memory_order_relaxed) + 1;
	}
	Slot *Find(const void *object) {
		const auto hash = (reinterpret_cast<uintptr_t>(object) * 0x9e3779b97f4a7c15ULL) >> 52;
		for (uint64_t probe = 0; probe < PROBES; probe++) {
			auto &slot = slots[(hash + probe) % SLOTS];
			auto found = slot.object.load(std::memory_order_acquire);
			if (found == object) {
				return &slot;
			}
			if (!found && slot.object.compare_exchange_strong(found, object, std::memory_order_acq_rel)) {
				// Until this store whoever finds the slot sees 0: unknown.
				slot.number.store(NextNumber(), std::memory_order_relaxed);
				return &slot;
			}
			if (found == object) {
				return &slot;
			}
		}
		return nullptr;
	}

	static_assert(SLOTS == 1ULL << (64 - 52), "the shift in Find must match");
	Slot slots[SLOTS];
	std::atomic<uint64_t> newest {0};
};

} // namespace duckbpf
