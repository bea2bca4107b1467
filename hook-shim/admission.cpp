//! The hookpoints query_begin and query_end: who is let in, and what a query used.
//!
//! A query that query_begin let in has a place here until it ends, by which limits are counted. A query waits before its transaction
//! begins, so it holds nothing but its connection; it never waits where somebody could wait for it: inside a transaction, inside
//! another task, or on a thread that has another query open.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"
#include "tags.hpp"

#include "duckdb/common/error_data.hpp"
#include "duckdb/common/exception.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/parser/sql_statement.hpp"
#include "duckdb/storage/buffer/buffer_pool.hpp"
#include "duckdb/storage/buffer_manager.hpp"
#include "duckdb/transaction/transaction_context.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

constexpr uint64_t MILLISECOND_NS = 1000000;
constexpr uint64_t BOUND_NS = DUCKBPF_QUERY_BOUND_MS * MILLISECOND_NS;
constexpr uint32_t DEFAULT_WAIT_MS = 100;

struct Guest {
	uint32_t klass;
	uint64_t waited_ns;
	//! Whose thread brought it, and has it open
	ThreadState *thread;
};

struct Hall {
	std::mutex lock;
	//! Somebody left
	std::condition_variable left;
	uint64_t times_left = 0;
	uint32_t waiting[DUCKBPF_CLASS_COUNT] = {};
	std::unordered_map<const ClientContext *, Guest> guests;
	//! Of guests; read without the lock by those who have none of their own there when it is 0
	std::atomic<idx_t> count {0};

	//! The lock is held
	uint32_t Admitted(uint32_t klass) const {
		uint32_t count = 0;
		for (auto &guest : guests) {
			count += guest.second.klass == klass;
		}
		return count;
	}
	//! False when there is no memory for it: then it is not counted
	bool Enter(const ClientContext &context, const Guest &guest) noexcept {
		try {
			guests.emplace(&context, guest);
		} catch (...) { // NOLINT: a query runs whether it is counted or not
			return false;
		}
		count.store(guests.size(), std::memory_order_relaxed);
		return true;
	}
};

//! Never destroyed: queries may outlive the end of main
Hall &hall = *new Hall();

struct Decision {
	enum class Kind { STOCK, ADMIT, WAIT, REJECT };
	Kind kind = Kind::STOCK;
	uint32_t klass = 0;
	uint32_t limit = 0;
	uint32_t wait_ms = DEFAULT_WAIT_MS;
};

Decision Check(ProgramCall &call, uint64_t value) {
	if (value == 0) {
		return Decision();
	}
	const auto kind = value & (DUCKBPF_DELAY(0) | DUCKBPF_REJECT);
	if (!(value & DUCKBPF_DECIDED) || (value & ~DUCKBPF_QUERY_BITS) || kind == (DUCKBPF_DELAY(0) | DUCKBPF_REJECT)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return Decision();
	}
	Decision decision;
	decision.kind = kind == DUCKBPF_REJECT     ? Decision::Kind::REJECT
	                : kind == DUCKBPF_DELAY(0) ? Decision::Kind::WAIT
	                                           : Decision::Kind::ADMIT;
	decision.klass = DUCKBPF_QUERY_CLASS(value);
	decision.limit = DUCKBPF_QUERY_LIMIT(value);
	if (DUCKBPF_QUERY_WAIT_OF(value)) {
		decision.wait_ms = DUCKBPF_QUERY_WAIT_OF(value);
	}
	if (decision.klass >= DUCKBPF_CLASS_COUNT || decision.wait_ms > DUCKBPF_QUERY_WAIT_MAX_MS) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return Decision();
	}
	return decision;
}

//! One query at the door
class Arrival {
public:
	Arrival(ClientContext &context, const SQLStatement &statement) : context(context), thread(IdentifiedThread()), begin_ns(NowNs()) {
		ctx.origin = thread.origin;
		ctx.origin.connection_id = context.GetConnectionId();
		ctx.origin.query_id = 0;
		ctx.origin.tag = TagOf(context, statement.query);
		ctx.fingerprint = Fingerprint(statement.query.data(), statement.query.size());
		ctx.statement = static_cast<uint32_t>(statement.type);
		ctx.in_transaction = context.transaction.HasActiveTransaction();
		ctx.may_wait = !ctx.in_transaction && MayWait() && thread.open_queries.load(std::memory_order_relaxed) == 0;
	}

	//! Returns when the query may begin; throws when it may not, or was interrupted
	void Admit() {
		while (!Ask()) {
			Wait();
			context.BlockingInterruptCheck();
		}
	}

private:
	void Look() {
		auto &buffers = context.db->GetBufferManager();
		ctx.used_memory = buffers.GetBufferPool().GetUsedMemory(false);
		ctx.max_memory = buffers.GetBufferPool().GetMaxMemory();
		ctx.spill_bytes = buffers.GetUsedSwap();
		ctx.waited_ns = NowNs() - begin_ns;
		std::copy(std::begin(hall.waiting), std::end(hall.waiting), ctx.waiting);
		std::fill(std::begin(ctx.admitted), std::end(ctx.admitted), 0);
		for (auto &guest : hall.guests) {
			ctx.admitted[guest.second.klass]++;
		}
	}

	//! True: it may begin
	bool Ask() {
		string message;
		{
			ProgramCall call(DUCKBPF_HOOK_QUERY_BEGIN);
			if (!call.Has()) {
				return true;
			}
			const std::lock_guard<std::mutex> guard(hall.lock);
			Look();
			thread.message_size = 0;
			const auto decision = Check(call, call.Run(ctx));
			if (decision.kind != Decision::Kind::REJECT) {
				return Follow(call, decision);
			}
			call.Apply();
		}
		throw InvalidInputException("%s", Message());
	}

	bool Follow(ProgramCall &call, const Decision &decision) {
		bool enters = decision.kind == Decision::Kind::STOCK || decision.kind == Decision::Kind::ADMIT;
		if (decision.limit && hall.Admitted(decision.klass) >= decision.limit) {
			enters = false;
		}
		if (!enters && (!ctx.may_wait || ctx.waited_ns >= BOUND_NS)) {
			call.Refuse(ctx.may_wait ? DUCKBPF_REFUSED_BOUND : DUCKBPF_REFUSED_WRONG_SITE);
			enters = true;
		} else if (decision.kind != Decision::Kind::STOCK) {
			call.Apply();
		}
		if (!enters) {
			klass = decision.klass;
			wait_ms = decision.wait_ms;
			seen = hall.times_left;
			return false;
		}
		if (hall.Enter(context, Guest {decision.klass, ctx.waited_ns, &thread})) {
			thread.open_queries.fetch_add(1, std::memory_order_relaxed);
		}
		return true;
	}

	void Wait() {
		//! So often interrupts are looked for
		static constexpr std::chrono::milliseconds POLL {10};
		const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
		std::unique_lock<std::mutex> guard(hall.lock);
		hall.waiting[klass]++;
		while (hall.times_left == seen && !context.IsInterrupted() && Attached(DUCKBPF_HOOK_QUERY_BEGIN) &&
		       std::chrono::steady_clock::now() < end) {
			hall.left.wait_for(guard, POLL);
		}
		hall.waiting[klass]--;
	}

	string Message() const {
		if (thread.message_size == 0) {
			return "the program on query_begin rejects this query";
		}
		return string(thread.message, thread.message_size);
	}

	ClientContext &context;
	ThreadState &thread;
	const uint64_t begin_ns;
	duckbpf_query_begin_ctx ctx {};
	//! Of the wait that was decided
	uint32_t klass = 0;
	uint32_t wait_ms = 0;
	uint64_t seen = 0;
};

} // namespace

void AdmitQuery(ClientContext &context, const SQLStatement &statement) {
	// A query that was let in and could not begin its transaction has left its place.
	LeaveHall(context);
	Arrival(context, statement).Admit();
}

void LeaveHall(const ClientContext &context) {
	if (hall.count.load(std::memory_order_relaxed) == 0) {
		return;
	}
	const std::lock_guard<std::mutex> guard(hall.lock);
	auto it = hall.guests.find(&context);
	if (it == hall.guests.end()) {
		return;
	}
	it->second.thread->open_queries.fetch_sub(1, std::memory_order_relaxed);
	hall.guests.erase(it);
	hall.count.store(hall.guests.size(), std::memory_order_relaxed);
	hall.times_left++;
	hall.left.notify_all();
}

bool FindGuest(const ClientContext &context, uint32_t &klass, uint64_t &waited_ns) {
	if (hall.count.load(std::memory_order_relaxed) == 0) {
		return false;
	}
	const std::lock_guard<std::mutex> guard(hall.lock);
	auto it = hall.guests.find(&context);
	if (it == hall.guests.end()) {
		return false;
	}
	klass = it->second.klass;
	waited_ns = it->second.waited_ns;
	return true;
}

//===--------------------------------------------------------------------===//
// query_end
//===--------------------------------------------------------------------===//
void OnQueryEnd(ClientContext &context, bool success, const ErrorData *error) {
	ProgramCall call(DUCKBPF_HOOK_QUERY_END);
	const auto query = FindQuery(context);
	if (!query || !call.Has()) {
		return;
	}
	duckbpf_query_end_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.fingerprint = query->fingerprint;
	ctx.duration_ns = NowNs() - query->start_ns;
	ctx.waited_ns = query->waited_ns;
	ctx.cpu_ns = __atomic_load_n(&query->cpu_ns, __ATOMIC_RELAXED);
	ctx.rows = __atomic_load_n(&query->rows, __ATOMIC_RELAXED);
	ctx.peak_memory = static_cast<uint64_t>(__atomic_load_n(&query->peak_memory, __ATOMIC_RELAXED));
	ctx.spill_bytes = __atomic_load_n(&query->spill_bytes, __ATOMIC_RELAXED);
	ctx.klass = query->klass;
	ctx.failed = !success || error;
	ctx.error = error ? static_cast<uint32_t>(error->Type()) : 0;
	call.Run(ctx);
}

} // namespace duckbpf
