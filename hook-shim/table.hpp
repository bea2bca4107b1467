//! A fixed table from addresses to values, with lookups that take no lock. Private to hook-shim.
#pragma once

#include <atomic>
#include <cstdint>

namespace duckbpf {

//! Buckets of four. An entry is claimed with BUSY, filled, then shown by its key; taking it out is one store, so nothing piles
//! up. A full bucket refuses, and the caller knows what that means. Whoever looks an entry up keeps its object alive
//! meanwhile, so that nobody takes it out.
template <class KEY, class VALUE, uint64_t LOG_BUCKETS>
class BucketTable {
	static constexpr uint64_t BUCKETS = 1ULL << LOG_BUCKETS;
	static constexpr uint64_t WAYS = 4;
	static constexpr uintptr_t BUSY = 1;

	struct Slot {
		std::atomic<uintptr_t> key {0};
		VALUE value {};
	};

public:
	VALUE *Find(const KEY &object) {
		auto slot = FindSlot(object);
		return slot ? &slot->value : nullptr;
	}
	//! The object must not be in the table
	bool Insert(const KEY &object, const VALUE &value) {
		auto bucket = Bucket(object);
		for (uint64_t way = 0; way < WAYS; way++) {
			uintptr_t expected = 0;
			if (bucket[way].key.compare_exchange_strong(expected, BUSY, std::memory_order_acquire)) {
				bucket[way].value = value;
				bucket[way].key.store(Key(object), std::memory_order_release);
				return true;
			}
		}
		return false;
	}
	bool Remove(const KEY &object, VALUE &removed) {
		auto slot = FindSlot(object);
		if (!slot) {
			return false;
		}
		removed = slot->value;
		slot->key.store(0, std::memory_order_release);
		return true;
	}

private:
	static uintptr_t Key(const KEY &object) {
		return reinterpret_cast<uintptr_t>(&object);
	}
	Slot *Bucket(const KEY &object) {
		return slots[(Key(object) * 0x9e3779b97f4a7c15ULL) >> (64 - LOG_BUCKETS)];
	}
	Slot *FindSlot(const KEY &object) {
		auto bucket = Bucket(object);
		for (uint64_t way = 0; way < WAYS; way++) {
			if (bucket[way].key.load(std::memory_order_acquire) == Key(object)) {
				return &bucket[way];
			}
		}
		return nullptr;
	}

	Slot slots[BUCKETS][WAYS];
};

} // namespace duckbpf
