//! duckbpf, the engine's side: the table that duckdb_hookpoints_v1() returns, publication of sets, reclaim, thread states.
//! What happens at each hookpoint is in hash.cpp, tasks.cpp and memory.cpp; who works for which query in identity.cpp.

#include "account.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"
#include "tags.hpp"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>

#ifndef DUCKBPF_CARRIER
#define DUCKBPF_CARRIER DUCKBPF_CARRIER_GRAFT
#endif
#ifndef DUCKBPF_SERIES
#error "DUCKBPF_SERIES must hold the hash of the patch series"
#endif
#ifndef DUCKDB_VERSION
#error "DUCKDB_VERSION must be defined"
#endif

namespace duckbpf {

std::atomic<const duckbpf_program *> gate[DUCKBPF_HOOK_COUNT];
const duckbpf_set nothing {};
std::atomic<const duckbpf_set *> published {&nothing};
std::atomic<uint64_t> sampling {0};
std::atomic<bool> readers_fence {false};
std::atomic<bool> blocks_watched {false};
std::atomic<bool> programs_wrote {false};
std::atomic<bool> memory_watched {false};
std::atomic<bool> queries_described {false};
__thread Local local;

namespace {

std::atomic<ThreadState *> threads {nullptr};
std::atomic<uint32_t> thread_count {0};
std::atomic<const duckbpf_runtime *> registered {nullptr};
std::atomic<bool> forked {false};

//! Handed to threads that have given their own state back: its epoch is odd, from the first use of any state, so that every hookpoint is stock
ThreadState exiting;

struct GiveBack {
	~GiveBack() {
		auto state = local.state;
		local.state = &exiting;
		if (state && state != &exiting) {
			state->taken.store(false, std::memory_order_release);
		}
	}
};

ThreadState *TakeState() {
	for (auto state = threads.load(std::memory_order_acquire); state; state = state->next) {
		bool expected = false;
		if (state->taken.compare_exchange_strong(expected, true, std::memory_order_acquire)) {
			return state;
		}
	}
	auto state = new (std::nothrow) ThreadState();
	if (!state) {
		return nullptr;
	}
	state->taken.store(true, std::memory_order_relaxed);
	state->index = thread_count.fetch_add(1, std::memory_order_relaxed);
	auto head = threads.load(std::memory_order_relaxed);
	do {
		state->next = head;
	} while (!threads.compare_exchange_weak(head, state, std::memory_order_release, std::memory_order_relaxed));
	return state;
}

int Membarrier(int command) {
	return static_cast<int>(syscall(SYS_membarrier, command, 0, 0));
}

void SetGates(const duckbpf_set *set) {
	for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
		gate[hook].store(set ? set->programs[hook] : nullptr, std::memory_order_relaxed);
	}
	const auto told_of_end = set && set->programs[DUCKBPF_HOOK_QUERY_END];
	memory_watched.store(told_of_end || (set && set->programs[DUCKBPF_HOOK_UPDATE_USED_MEMORY]), std::memory_order_relaxed);
	queries_described.store(told_of_end || (set && set->programs[DUCKBPF_HOOK_RUN_TASK]), std::memory_order_relaxed);
}

//! After fork only the calling thread lives on: no hook runs in the child, ever
void DetachChild() {
	forked.store(true, std::memory_order_relaxed);
	SetGates(nullptr);
	published.store(&nothing, std::memory_order_relaxed);
	hints.store(0, std::memory_order_relaxed);
	blocks_watched.store(false, std::memory_order_relaxed);
}

void Prepare() {
	static std::once_flag once;
	std::call_once(once, [] {
		readers_fence.store(Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0, std::memory_order_relaxed);
		pthread_atfork(nullptr, nullptr, DetachChild);
	});
}

int RegisterRuntime(const duckbpf_runtime *runtime) {
	if (!runtime || runtime->version != DUCKBPF_HOST_VERSION) {
		return DUCKBPF_ERROR_VERSION;
	}
	Prepare();
	const duckbpf_runtime *expected = nullptr;
	if (registered.compare_exchange_strong(expected, runtime) || expected == runtime) {
		return DUCKBPF_OK;
	}
	return DUCKBPF_ERROR_BUSY;
}

int Publish(const duckbpf_set *set) {
	if (forked.load(std::memory_order_relaxed)) {
		return DUCKBPF_ERROR_FORKED;
	}
	// Release: whoever sees the pointer sees the set. The gates follow; a hookpoint that finds its gate open too early or
	// too late takes the program, or its absence, from the set.
	published.store(set ? set : &nothing, std::memory_order_release);
	if (set) {
		programs_wrote.store(true);
	}
	SetGates(set);
	return DUCKBPF_OK;
}

//! A full barrier on every thread of the process that runs; others pass one when they are scheduled
void BarrierEverywhere() {
	if (!readers_fence.load(std::memory_order_relaxed)) {
		if (Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
			return;
		}
		// It was there and is denied now, by a seccomp filter: from here on readers fence themselves. Those that stored
		// their epoch without a fence just before are seen once their store buffers drained, which takes nanoseconds.
		readers_fence.store(true, std::memory_order_seq_cst);
		std::this_thread::sleep_for(std::chrono::milliseconds(20));
	}
	std::atomic_thread_fence(std::memory_order_seq_cst);
}

//! Waits until no thread is inside a program that it took from an older set. The barrier splits every thread's life in two:
//! who set its epoch before it is seen odd here and waited for; who sets it later loads the new set.
void Synchronize() {
	BarrierEverywhere();
	auto own = local.state;
	for (auto state = threads.load(std::memory_order_acquire); state; state = state->next) {
		const auto seen = state->epoch.load(std::memory_order_acquire);
		if (state == own || !(seen & 1)) {
			continue;
		}
		while (state->epoch.load(std::memory_order_acquire) == seen) {
			sched_yield();
		}
	}
	ForgetWhatNobodyAsks();
}

void ReadCounters(duckbpf_hook_counters *out) {
	for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
		out[hook] = duckbpf_hook_counters {};
	}
	for (auto state = threads.load(std::memory_order_acquire); state; state = state->next) {
		for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
			auto &from = state->counters[hook];
			auto &to = out[hook];
			to.calls += from.calls.Get();
			to.applied += from.applied.Get();
			for (int reason = 0; reason < DUCKBPF_REFUSAL_COUNT; reason++) {
				to.refused[reason] += from.refused[reason].Get();
			}
			to.keys += from.keys.Get();
			to.timed_calls += from.timed_calls.Get();
			to.timed_ns += from.timed_ns.Get();
		}
	}
}

void SetSampling(__u32 on) {
	if (on) {
		sampling.fetch_or(TIMES_ONE_IN_64, std::memory_order_relaxed);
	} else {
		sampling.fetch_and(~TIMES_ONE_IN_64, std::memory_order_relaxed);
	}
}

void CurrentOrigin(duckbpf_origin *origin) {
	*origin = IdentifiedThread().origin;
}

__u64 QueryAgeNs() {
	const auto start = IdentifiedThread().query_start_ns;
	return start ? NowNs() - start : 0;
}

void HelperFailed() {
	Thread().helper_failed = true;
}

__u32 ThreadIndex() {
	return Thread().index;
}

void SetMessage(const char *text, __u64 size) {
	auto &thread = Thread();
	thread.message_size = static_cast<uint32_t>(size < DUCKBPF_MESSAGE_MAX ? size : DUCKBPF_MESSAGE_MAX);
	memcpy(thread.message, text, thread.message_size);
}

void WatchBlocks(__u32 on) {
	blocks_watched.store(on != 0, std::memory_order_relaxed);
}

const duckbpf_host host = {
    DUCKBPF_HOST_VERSION, sizeof(duckbpf_host), DUCKBPF_CARRIER, DUCKBPF_ABI_VERSION, DUCKDB_VERSION, DUCKBPF_SERIES,
    RegisterRuntime,      Publish,              Synchronize,     ReadCounters,        SetSampling,    CurrentOrigin,
    QueryAgeNs,           HelperFailed,         ThreadIndex,     EngineState,         TagText,        AccountMemory,
    WatchBlocks,          Measure,              SetMessage,      stock_symbols,       stock_code,
};

} // namespace

ThreadState &FirstUse() {
	static thread_local GiveBack give_back;
	exiting.epoch.store(1, std::memory_order_relaxed);
	auto state = TakeState();
	if (!state) {
		return exiting;
	}
	(void)&give_back;
	local.state = state;
	local.identified = false;
	return *state;
}

static __attribute__((noinline)) uint64_t RunTimed(void *ctx, const duckbpf_program &program, ThreadState &thread,
                                                   duckbpf_hook hook) {
	const Sample sample(thread, hook);
	return Enter(program, ctx);
}

__attribute__((noinline, cold)) uint64_t RunSampled(void *ctx, const duckbpf_program &program, ThreadState &thread,
                                                    duckbpf_hook hook) {
	// Most calls are not timed: they end in a jump, and keep nothing for afterwards.
	if (sampling.load(std::memory_order_relaxed) == TIMES_ONE_IN_64 && ((thread.tick + 1) & 63) != 0) {
		thread.tick++;
		return Enter(program, ctx);
	}
	return RunTimed(ctx, program, thread, hook);
}

void CountRefusal(ThreadState &thread, duckbpf_hook hook, duckbpf_refusal reason) noexcept {
	thread.counters[hook].refused[reason].Add(1);
}

void DiscardDecision(ThreadState &thread, duckbpf_hook hook) noexcept {
	thread.helper_failed = false;
	CountRefusal(thread, hook, DUCKBPF_REFUSED_HELPER_FAILED);
}

uint64_t NowNs() {
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<uint64_t>(now.tv_sec) * 1000000000ULL + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t ReadProgramLog(char *line, uint64_t size) {
	auto runtime = registered.load(std::memory_order_acquire);
	const auto read = runtime ? runtime->read_log(line, size) : 0;
	if (read == 0 && published.load() == &nothing) {
		// Nobody writes any more, but for who was attached just now.
		programs_wrote.store(false);
		if (published.load() != &nothing) {
			programs_wrote.store(true);
		}
	}
	return read;
}

void BlockEnded(uint64_t file_id, int64_t block_id) {
	const Epoch epoch(Thread());
	auto runtime = registered.load(std::memory_order_acquire);
	if (epoch.Entered() && runtime) {
		runtime->block_ended(file_id, block_id);
	}
}

void ProgramUnpinned() {
	if (auto runtime = registered.load(std::memory_order_acquire)) {
		runtime->unpinned();
	}
}

} // namespace duckbpf

extern "C" const duckbpf_host *duckdb_hookpoints_v1(void) {
	return &duckbpf::host;
}
