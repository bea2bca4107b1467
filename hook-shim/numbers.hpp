//! Small numbers for objects that have none: databases, files. Private to hook-shim.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace duckbpf {

//! Numbers objects by their address, from 1 up, each once in the life of the process. An object that was there before the
//! graft gets its number when it is first met; one whose address is used again must be forgotten, or renewed.
class Numbers {
public:
	uint64_t Of(const void *object) noexcept {
		struct Last {
			const Numbers *numbers;
			const void *object;
			uint64_t version;
			uint64_t number;
		};
		__attribute__((tls_model("initial-exec"))) static thread_local Last last {nullptr, nullptr, 0, 0};
		const auto now = version.load(std::memory_order_acquire);
		if (last.numbers == this && last.object == object && last.version == now) {
			return last.number;
		}
		const auto number = Find(object);
		last = Last {this, object, now, number};
		return number;
	}
	void Forget(const void *object) noexcept {
		const std::lock_guard<std::mutex> guard(lock);
		if (numbers.erase(object)) {
			version.fetch_add(1, std::memory_order_release);
		}
	}

private:
	//! 0, unknown, when memory is short
	uint64_t Find(const void *object) noexcept {
		try {
			const std::lock_guard<std::mutex> guard(lock);
			auto &number = numbers[object];
			if (!number) {
				number = ++newest;
			}
			return number;
		} catch (...) {
			return 0;
		}
	}

	std::mutex lock;
	std::unordered_map<const void *, uint64_t> numbers;
	uint64_t newest = 0;
	//! Grows when a number is taken back, which voids what threads remember
	std::atomic<uint64_t> version {0};
};

} // namespace duckbpf
