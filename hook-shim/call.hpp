//! How this side calls a program: thread states, the epoch protocol, counters. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"
#include "duckbpf/host.hpp"

#include <atomic>
#include <cstdint>

//! A hookpoint is one stretch of code: what is called on its way keeps its state in memory
#define DUCKBPF_INLINE inline __attribute__((always_inline))

//! What a hookpoint seldom calls before its program. Where the compiler can make it so it brings every register back, and the hookpoint
//! has none to save for it.
#ifdef __clang__
#define DUCKBPF_SELDOM __attribute__((noinline, cold, preserve_most))
#else
#define DUCKBPF_SELDOM __attribute__((noinline, cold))
#endif

//! This library's own: found by their distance, not by a look into its symbol table
#pragma GCC visibility push(hidden)
namespace duckbpf {

struct QueryEntry;
struct Profile;

//! A counter that one thread writes and any thread reads
class Counter {
public:
	void Add(uint64_t n) {
		value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
	}
	uint64_t Get() const {
		return value.load(std::memory_order_relaxed);
	}

private:
	std::atomic<uint64_t> value {0};
};

struct Counters {
	Counter calls;
	Counter applied;
	Counter refused[DUCKBPF_REFUSAL_COUNT];
	Counter keys;
	Counter timed_calls;
	Counter timed_ns;
};

//! Everything that belongs to one thread. States are never freed; a dead thread's state, with its counts, goes to the next
//! new thread.
struct alignas(64) ThreadState {
	//! Odd while the thread is inside a program, see Synchronize() in shim.cpp
	std::atomic<uint64_t> epoch {0};
	std::atomic<bool> taken {false};
	ThreadState *next = nullptr;
	uint32_t index = 0;
	bool helper_failed = false;
	//! It hands lines that programs wrote to the log
	bool writing_lines = false;
	//! For blocks that it loads: of the scan that it works for; none: the scan has no say
	duckbpf_hint scan_hint = DUCKBPF_HINT_NONE;
	uint32_t tick = 0;
	//! Of the slice that it runs; 0: stock's number
	uint32_t slice_chunks = 0;
	//! What query_begin's program says to a query that it rejects
	uint32_t message_size = 0;
	char message[DUCKBPF_MESSAGE_MAX];
	//! Queries that query_begin let in on this thread and that have not ended
	std::atomic<uint32_t> open_queries {0};
	// Whose work the thread does, while local.identified
	//! The query's entry; null: none that is known
	QueryEntry *query = nullptr;
	duckbpf_origin origin {};
	uint64_t query_start_ns = 0;
	//! Its database, which lives as long as the thread works for it; null when unknown
	duckdb::DatabaseInstance *database = nullptr;
	//! Blocks that it found in memory, and that it had to read
	uint64_t buffer_hits = 0;
	uint64_t buffer_misses = 0;
	Counters counters[DUCKBPF_HOOK_COUNT];
};

//! The calling thread has no state yet (shim.cpp)
DUCKBPF_SELDOM ThreadState &FirstUse();
//! The calling thread's state; one that is inside a program for good when the thread is about to exit
inline ThreadState &Thread() {
	auto state = local.state;
	return __builtin_expect(state != nullptr, 1) ? *state : FirstUse();
}
//! Works out whose work the thread does (identity.cpp)
DUCKBPF_SELDOM void Identify(ThreadState &thread);
inline ThreadState &IdentifiedThread() {
	auto &thread = Thread();
	if (__builtin_expect(!local.identified, 0)) {
		Identify(thread);
	}
	return thread;
}
uint64_t NowNs();

//! The set in force; `nothing`, which has no program, while detached. Read it inside an epoch only.
extern std::atomic<const duckbpf_set *> published;
extern const duckbpf_set nothing;
inline bool IsPublished() {
	return published.load(std::memory_order_relaxed) != &nothing;
}
//! Which calls are timed: TIMES_ONE_IN_64, and for each query that is profiled TIMES_A_QUERY more (profile.cpp)
extern std::atomic<uint64_t> sampling;
constexpr uint64_t TIMES_ONE_IN_64 = 1;
constexpr uint64_t TIMES_A_QUERY = 2;
//! membarrier is missing: readers fence themselves
extern std::atomic<bool> readers_fence;

//! Being inside a program, on this thread. Entered() is false when the thread is inside one already.
class Epoch {
public:
	DUCKBPF_INLINE explicit Epoch(ThreadState &thread) : thread(thread), number(thread.epoch.load(std::memory_order_relaxed)) {
		if (number & 1) {
			return;
		}
		// The publisher's membarrier orders this store before the load of the set below, or makes that load see the new
		// set; the signal fence keeps the compiler from exchanging them. Release: who sees the thread inside anew sees
		// that its last call is over.
		thread.epoch.store(number + 1, std::memory_order_release);
		std::atomic_signal_fence(std::memory_order_seq_cst);
		if (IsRaised(readers_fence)) {
			std::atomic_thread_fence(std::memory_order_seq_cst);
		}
	}
	DUCKBPF_INLINE ~Epoch() {
		if (Entered()) {
			// Release: what the program did happens before its memory is given back.
			thread.epoch.store(number + 2, std::memory_order_release);
		}
	}
	Epoch(const Epoch &) = delete;
	Epoch &operator=(const Epoch &) = delete;

	bool Entered() const {
		return !(number & 1);
	}
	//! The program in force, or null
	const duckbpf_program *Program(duckbpf_hook hook) const {
		// Acquire: pairs with the release in Publish, so that the set's content is seen.
		return published.load(std::memory_order_acquire)->programs[hook];
	}

private:
	ThreadState &thread;
	const uint64_t number;
};

//! Times a call, where somebody wants that: every 64th of a thread's, or all of a query's
class Sample {
public:
	DUCKBPF_INLINE Sample(ThreadState &thread, duckbpf_hook hook) : thread(thread), hook(hook) {
		const auto wanted = sampling.load(std::memory_order_relaxed);
		if (__builtin_expect(wanted != 0, 0)) {
			is_sampled = (wanted & TIMES_ONE_IN_64) && (++thread.tick & 63) == 0;
			if (is_sampled || wanted >= TIMES_A_QUERY) {
				Begin(wanted);
			}
		}
	}
	DUCKBPF_INLINE ~Sample() {
		if (__builtin_expect(begin != 0, 0)) {
			End();
		}
	}
	Sample(const Sample &) = delete;
	Sample &operator=(const Sample &) = delete;

private:
	void Begin(uint64_t wanted);
	void End();

	ThreadState &thread;
	const duckbpf_hook hook;
	bool is_sampled = false;
	Profile *profile = nullptr;
	uint64_t begin = 0;
};

//! Compiled programs throw nothing
DUCKBPF_INLINE uint64_t Enter(const duckbpf_program &program, void *ctx) {
	return reinterpret_cast<uint64_t (*)(void *) noexcept>(program.entry)(ctx);
}

//! The same while some calls are timed. The context comes first, where the program will look for it.
uint64_t RunSampled(void *ctx, const duckbpf_program &program, ThreadState &thread, duckbpf_hook hook);

// Both are seldom, and functions of their own so that following a decision is straight on (shim.cpp).
//! A decision that cannot be followed
DUCKBPF_SELDOM void CountRefusal(ThreadState &thread, duckbpf_hook hook, duckbpf_refusal reason) noexcept;
//! A helper failed: there is no decision
DUCKBPF_SELDOM void DiscardDecision(ThreadState &thread, duckbpf_hook hook) noexcept;

//! One call of the program of a hook. Has() is false when there is none: then everything is stock.
class ProgramCall {
public:
	DUCKBPF_INLINE explicit ProgramCall(duckbpf_hook hook)
	    : thread(Thread()), hook(hook), epoch(thread), program(epoch.Entered() ? epoch.Program(hook) : nullptr) {
	}

	bool Has() const {
		return program != nullptr;
	}
	DUCKBPF_INLINE const duckbpf_origin &Origin() const {
		if (__builtin_expect(!local.identified, 0)) {
			Identify(thread);
		}
		return thread.origin;
	}
	//! Runs the program. What it returns is not to be trusted; 0 when a helper failed.
	template <class CTX>
	DUCKBPF_INLINE uint64_t Run(CTX &ctx) {
		thread.counters[hook].calls.Add(1);
		// Elsewhere, so that a hookpoint has no registers to save for it.
		const auto decision = IsRaised(sampling) ? RunSampled(&ctx, *program, thread, hook) : Enter(*program, &ctx);
		if (__builtin_expect(thread.helper_failed, 0)) {
			DiscardDecision(thread, hook);
			return 0;
		}
		return decision;
	}
	void CountLoad(bool hit) {
		(hit ? thread.buffer_hits : thread.buffer_misses)++;
	}
	DUCKBPF_INLINE void Apply() {
		thread.counters[hook].applied.Add(1);
	}
	void Refuse(duckbpf_refusal reason) {
		CountRefusal(thread, hook, reason);
	}

private:
	ThreadState &thread;
	const duckbpf_hook hook;
	const Epoch epoch;
	const duckbpf_program *const program;
};

//! No thread is inside an old program: hints are void without load and scan_begin, files without evict (blocks.cpp)
void ForgetWhatNobodyAsks();
//! Nanoseconds of so many attached hookpoints in a row (memory.cpp)
__u64 Measure(__u64 passes);
//! One of enum duckbpf_state, for helpers (state.cpp)
__u64 EngineState(__u32 what, __u64 argument);
//! The oldest line that programs wrote, see duckbpf_runtime (shim.cpp)
uint64_t ReadProgramLog(char *line, uint64_t size);
//! A block is gone, see duckbpf_runtime (shim.cpp)
void BlockEnded(uint64_t file_id, int64_t block_id);
//! The last query let go of a hash program that is no longer published (shim.cpp)
void ProgramUnpinned();

} // namespace duckbpf
#pragma GCC visibility pop
