//! The hookpoint run_task: who runs the next slice of its work, and who waits.
//!
//! Queries that were asked about have a state here, from the first ask to the query's end. It holds the slots that the query has:
//! one for each thread that runs a slice of it, and those that it kept. Everything is under one lock, which is held for a look at
//! the states of the queries that run; slices take milliseconds. Nobody sleeps inside a program's epoch, so a waiting query never
//! holds up a change of programs, and every wait ends by itself.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"

#include "duckdb/execution/executor.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/parallel/executor_task.hpp"
#include "duckdb/parallel/task_scheduler.hpp"
#include "duckdb/parallel/task_scheduler_queue.hpp"

#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> run_states {0};

namespace {

constexpr uint64_t MILLISECOND_NS = 1000000;
//! A slot that was kept, or a place among the waiting, lapses when its query has not come back for so long
constexpr uint64_t LEASE_NS = 100 * MILLISECOND_NS;
constexpr uint64_t BOUND_NS = DUCKBPF_RUN_BOUND_MS * MILLISECOND_NS;
constexpr uint64_t FREE_NS = DUCKBPF_RUN_FREE_MS * MILLISECOND_NS;
constexpr uint32_t DEFAULT_WAIT_US = 5000;

struct RunState {
	explicit RunState(const QueryEntry &entry) : start_ns(entry.start_ns), tag(entry.origin.tag), klass(entry.klass) {
	}

	uint64_t start_ns;
	uint32_t tag;
	uint32_t klass;
	//! Threads that run a slice of it now
	uint32_t threads = 0;
	uint32_t kept = 0;
	uint64_t kept_until_ns = 0;
	//! When it was first held up after its last slice; 0: it was not
	uint64_t held_since_ns = 0;
	uint64_t last_held_ns = 0;
	//! Until when it runs whatever is decided, for it was held up as long as may be
	uint64_t free_until_ns = 0;

	uint32_t Slots(uint64_t now) const {
		return threads + (now < kept_until_ns ? kept : 0);
	}
	bool Waits(uint64_t now) const {
		return held_since_ns && threads == 0 && now < last_held_ns + LEASE_NS;
	}
};

struct Runs {
	std::mutex lock;
	//! Somebody gave a slot back
	std::condition_variable freed;
	uint64_t times_freed = 0;
	std::unordered_map<const ClientContext *, RunState> states;

	//! The lock is held
	void Freed() {
		times_freed++;
		freed.notify_all();
	}
	//! Null when there is no memory for it
	RunState *Of(const ClientContext &context, const QueryEntry &entry) noexcept {
		auto it = states.find(&context);
		if (it != states.end()) {
			return &it->second;
		}
		try {
			it = states.emplace(&context, RunState(entry)).first;
		} catch (...) { // NOLINT: a query runs whether it is known here or not
			return nullptr;
		}
		run_states.store(states.size(), std::memory_order_relaxed);
		return &it->second;
	}
	uint32_t SlotsOf(uint32_t klass, uint64_t now) const {
		uint32_t slots = 0;
		for (auto &entry : states) {
			slots += entry.second.klass == klass ? entry.second.Slots(now) : 0;
		}
		return slots;
	}
};

//! Never destroyed: workers may outlive the end of main
Runs &runs = *new Runs();

//! What the program is told of the others
void Describe(const RunState &own, uint64_t now, duckbpf_run_task_ctx &ctx) {
	for (auto &entry : runs.states) {
		const auto &state = entry.second;
		const auto slots = state.Slots(now);
		const auto same_tag = state.tag == own.tag;
		ctx.running[state.klass] += slots;
		ctx.tag_running += same_tag ? slots : 0;
		if (&state == &own || !state.Waits(now)) {
			continue;
		}
		ctx.waiting[state.klass]++;
		ctx.tag_waiting += same_tag;
		ctx.older_waiting += state.klass == own.klass && state.start_ns < own.start_ns;
	}
}

duckbpf_run_task_ctx MakeContext(const QueryEntry &entry, const RunState &state, duckbpf_run_site site, uint64_t now) {
	duckbpf_run_task_ctx ctx {};
	ctx.origin = entry.origin;
	ctx.fingerprint = entry.fingerprint;
	ctx.age_ns = now - entry.start_ns;
	ctx.cpu_ns = __atomic_load_n(&entry.cpu_ns, __ATOMIC_RELAXED);
	ctx.waited_ns = state.held_since_ns ? now - state.held_since_ns : 0;
	ctx.klass = state.klass;
	ctx.site = site;
	ctx.threads = state.threads;
	ctx.kept = now < state.kept_until_ns ? state.kept : 0;
	Describe(state, now, ctx);
	return ctx;
}

//! What a program decided, or stock
struct Decision {
	bool is_stock = true;
	bool hold = false;
	bool keep = false;
	uint32_t klass = 0;
	uint32_t limit = 0;
	uint32_t chunks = 0;
	uint32_t wait_us = DEFAULT_WAIT_US;
};

Decision Check(ProgramCall &call, uint64_t value) {
	if (value == 0) {
		return Decision();
	}
	if (!(value & DUCKBPF_DECIDED) || (value & ~DUCKBPF_RUN_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return Decision();
	}
	Decision decision;
	decision.is_stock = false;
	decision.hold = DUCKBPF_RUN_IS_HOLD(value);
	decision.keep = value & DUCKBPF_RUN_KEEP;
	decision.klass = DUCKBPF_RUN_CLASS(value);
	decision.limit = DUCKBPF_RUN_LIMIT(value);
	decision.chunks = DUCKBPF_RUN_CHUNKS_OF(value);
	if (DUCKBPF_RUN_WAIT_OF(value)) {
		decision.wait_us = DUCKBPF_RUN_WAIT_OF(value);
	}
	if (decision.klass >= DUCKBPF_CLASS_COUNT || decision.chunks > DUCKBPF_RUN_CHUNKS_MAX ||
	    decision.wait_us > DUCKBPF_RUN_WAIT_MAX_US) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return Decision();
	}
	return decision;
}

//! Whether a slot is the query's now. Takes it.
bool TakeSlot(RunState &state, const Decision &decision, uint64_t now) {
	state.klass = decision.klass;
	if (state.kept && now < state.kept_until_ns) {
		state.kept--;
	} else {
		state.kept = 0;
		if (decision.limit && runs.SlotsOf(decision.klass, now) >= decision.limit) {
			return false;
		}
	}
	return true;
}

void Hold(RunState &state, const Decision &decision, uint64_t now) {
	state.klass = decision.klass;
	if (state.kept && !decision.keep) {
		state.kept = 0;
		runs.Freed();
	} else if (state.kept) {
		state.kept_until_ns = now + LEASE_NS;
	}
	state.last_held_ns = now;
	if (!state.held_since_ns) {
		state.held_since_ns = now;
	}
}

} // namespace

//! Whether the calling thread may run a slice now. If so, it has a slot and, where the program said so, a length.
bool RunSlice::Ask(ClientContext &query, duckbpf_run_site site) {
	auto entry = FindQuery(query);
	auto &thread = Thread();
	ProgramCall call(DUCKBPF_HOOK_RUN_TASK);
	// Whoever is inside another task holds what others wait for.
	if (!entry || entry->steers || !(MayWait() || is_inside) || !call.Has()) {
		return true;
	}
	const auto now = NowNs();
	const std::lock_guard<std::mutex> guard(runs.lock);
	const auto state = runs.Of(query, *entry);
	if (!state) {
		return true;
	}
	auto ctx = MakeContext(*entry, *state, site, now);
	ctx.origin.thread_index = thread.index;
	const auto decision = Check(call, call.Run(ctx));
	if (!decision.is_stock && now >= state->free_until_ns) {
		const bool has_slot = !decision.hold && TakeSlot(*state, decision, now);
		if (!has_slot && ctx.waited_ns < BOUND_NS) {
			call.Apply();
			Hold(*state, decision, now);
			wait_us = decision.wait_us;
			seen = runs.times_freed;
			return false;
		}
		if (has_slot) {
			call.Apply();
		} else {
			call.Refuse(DUCKBPF_REFUSED_BOUND);
			state->free_until_ns = now + FREE_NS;
		}
		keep = has_slot && decision.keep;
	}
	// Also while it runs whatever is decided: a task of seconds would be the others' wait.
	partial = decision.chunks != 0;
	thread.slice_chunks = chunks_left = decision.chunks;
	// A worker that waited within a task would be missed by those for whom it waits.
	local.slice = decision.chunks && site == DUCKBPF_RUN_CLIENT ? this : nullptr;
	state->threads++;
	state->held_since_ns = 0;
	context = &query;
	return true;
}

bool RunSlice::GoesOn() {
	if (!context || TakesPartial() || ActiveQueries() > 1) {
		return false;
	}
	auto &query = *context;
	EndSlice();
	partial = keep = false;
	return Ask(query, DUCKBPF_RUN_WORKER);
}

bool RunSlice::BeginForClient(ClientContext &query) {
	using std::chrono::steady_clock;
	if (Ask(query, DUCKBPF_RUN_CLIENT)) {
		return true;
	}
	// Asks again whenever a slot was given back: the way out to the client and back would cost more than the question.
	const auto end = steady_clock::now() + std::chrono::microseconds(wait_us);
	bool is_freed;
	do {
		{
			std::unique_lock<std::mutex> guard(runs.lock);
			is_freed = runs.freed.wait_until(guard, end, [&] { return runs.times_freed != seen; });
		}
		query.BlockingInterruptCheck();
		if (Executor::Get(query).HasError() || Ask(query, DUCKBPF_RUN_CLIENT)) {
			return true;
		}
	} while (is_freed && steady_clock::now() < end);
	return false;
}

void RunSlice::AfterChunk() {
	if (--chunks_left) {
		return;
	}
	auto &query = *context;
	if (auto entry = FindQuery(query)) {
		AccountCpu(*entry);
	}
	EndSlice();
	keep = false;
	is_inside = true;
	try {
		while (!BeginForClient(query)) {
			// its bound ends this
		}
	} catch (...) { // NOLINT: runs on to where stock looks for interrupts
	}
	is_inside = false;
}

void EndChunkWithinTask() noexcept {
	const auto slice = local.slice;
	if (slice && local.may_give_way && local.task_depth == 1) {
		slice->AfterChunk();
	}
}

void RunSlice::EndSlice() {
	Thread().slice_chunks = 0;
	local.slice = nullptr;
	const std::lock_guard<std::mutex> guard(runs.lock);
	auto it = runs.states.find(context);
	context = nullptr;
	if (it == runs.states.end()) {
		return;
	}
	auto &state = it->second;
	state.threads--;
	if (keep) {
		state.kept++;
		state.kept_until_ns = NowNs() + LEASE_NS;
	} else {
		runs.Freed();
	}
}

void ReleaseKeptSlot(ClientContext &context) {
	const std::lock_guard<std::mutex> guard(runs.lock);
	auto it = runs.states.find(&context);
	if (it != runs.states.end() && it->second.kept) {
		it->second.kept = 0;
		runs.Freed();
	}
}

void ForgetRun(ClientContext &context) {
	const std::lock_guard<std::mutex> guard(runs.lock);
	if (runs.states.erase(&context)) {
		run_states.store(runs.states.size(), std::memory_order_relaxed);
		runs.Freed();
	}
}

idx_t SliceChunks(idx_t stock) {
	const auto chunks = Thread().slice_chunks;
	return chunks ? chunks : stock;
}

//===--------------------------------------------------------------------===//
// Workers
//===--------------------------------------------------------------------===//
namespace {

//! As in queues.hpp.
template <std::mutex Executor::*MEMBER>
struct ExposeExecutorLock {
	friend std::mutex &LockOf(Executor &executor) {
		return executor.*MEMBER;
	}
};
std::mutex &LockOf(Executor &executor);
template struct ExposeExecutorLock<&Executor::executor_lock>;

//! Puts a task back where it was, and wakes the client whose task it is: it may run it
void PutBack(TaskSchedulerQueue &queue, duckdb::shared_ptr<Task> task) {
	auto &executor = static_cast<ExecutorTask &>(*task).executor;
	auto &token = *task->token;
	// Keeps the query there until its client is told.
	auto keeps = task;
	queue.Enqueue(token, std::move(task));
	lock_guard<mutex> guard(LockOf(executor));
	executor.SignalTaskRescheduled(guard);
}

} // namespace

RunSlice::Taken RunSlice::BeginForWorker(TaskSchedulerQueue &queue, ConsumerToken &consumer,
                                         duckdb::shared_ptr<Task> &task) {
	//! Tasks that a worker looks at before it waits
	static constexpr idx_t LOOKS = 32;
	std::array<duckdb::shared_ptr<Task>, LOOKS> declined;
	idx_t count = 0;
	auto retry_us = static_cast<uint32_t>(DUCKBPF_RUN_WAIT_MAX_US);
	bool taken = false;
	while (count < LOOKS && queue.Dequeue(consumer, task)) {
		auto of_query = dynamic_cast<ExecutorTask *>(task.get());
		taken = !of_query || Ask(of_query->executor.context, DUCKBPF_RUN_WORKER);
		if (taken) {
			break;
		}
		retry_us = MinValue(retry_us, wait_us);
		declined[count++] = std::move(task);
	}
	for (idx_t i = 0; i < count; i++) {
		PutBack(queue, std::move(declined[i]));
	}
	if (count) {
		local.retry_us = retry_us;
	}
	if (taken) {
		return Taken::TASK;
	}
	return count ? Taken::DECLINED : Taken::NOTHING;
}

} // namespace duckbpf
