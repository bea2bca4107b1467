//! Whose work a thread does: queries by their ClientContext, databases by their DatabaseInstance, and the thread-local ids
//! that ride into every context.
//!
//! A query's entry lives from BeginQuery to EndQuery and holds what was fixed at its begin: its ids, its start and the hash
//! program. Lookups are lock-free; they happen per task and per vector. An entry is only looked up by threads that work for
//! the query, hence while it exists.

#include "identity.hpp"

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "numbers.hpp"
#include "table.hpp"
#include "tags.hpp"

#include "duckdb/logging/logger.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/transaction/transaction_context.hpp"

namespace duckbpf {

namespace {

//! The thread's entries in the log are lines that programs wrote
class WritingLines {
public:
	WritingLines() {
		Thread().writing_lines = true;
	}
	~WritingLines() {
		Thread().writing_lines = false;
	}
};

//! Hands lines that programs wrote on to the log of the query that ends now, if it takes them
void WriteProgramLog(duckdb::ClientContext &context) {
	static constexpr int MAX_LINES = 1000;
	try {
		auto &logger = duckdb::Logger::Get(context);
		if (!logger.ShouldLog("", duckdb::LogLevel::LOG_INFO)) {
			return;
		}
		char line[256];
		const WritingLines writing_lines;
		for (int lines = 0; lines < MAX_LINES; lines++) {
			const auto size = ReadProgramLog(line, sizeof(line));
			if (size == 0) {
				return;
			}
			logger.WriteLog("", duckdb::LogLevel::LOG_INFO, duckdb::string(line, size));
		}
	} catch (...) { // NOLINT: a query does not fail because its log does
	}
}

//! A query that finds its bucket full stays unknown: stock, which is right.
BucketTable<duckdb::ClientContext, QueryEntry, 10> queries;
std::atomic<idx_t> active_queries {0};
Numbers databases;

duckbpf_program *PinHashProgram() {
	if (!Attached(DUCKBPF_HOOK_HASH)) {
		return nullptr;
	}
	const Epoch epoch(Thread());
	auto program = epoch.Entered() ? const_cast<duckbpf_program *>(epoch.Program(DUCKBPF_HOOK_HASH)) : nullptr;
	if (program) {
		// Inside the epoch: whoever retires the program sees the pin once Synchronize() returned.
		__atomic_fetch_add(&program->pins, 1, __ATOMIC_SEQ_CST);
	}
	return program;
}

void Unpin(duckbpf_program *program) {
	if (program && __atomic_sub_fetch(&program->pins, 1, __ATOMIC_SEQ_CST) == 0 &&
	    gate[DUCKBPF_HOOK_HASH].load(std::memory_order_relaxed) != program) {
		ProgramUnpinned();
	}
}

//! A thread inside a program, or one that is about to exit, keeps its identity
bool MayRename(const ThreadState &thread) {
	return !(thread.epoch.load(std::memory_order_relaxed) & 1);
}

void Enter(ThreadState &thread, duckdb::ClientContext &context) {
	auto entry = queries.Find(context);
	const auto thread_index = thread.origin.thread_index;
	thread.database = context.db.get();
	if (entry) {
		thread.origin = entry->origin;
		thread.query_start_ns = entry->start_ns;
	} else {
		thread.origin = duckbpf_origin {};
		thread.origin.database_id = databases.Of(context.db.get());
		thread.query_start_ns = 0;
	}
	thread.origin.thread_index = thread_index;
}

} // namespace

QueryEntry *FindQuery(duckdb::ClientContext &context) {
	return queries.Find(context);
}

void BeginQuery(duckdb::ClientContext &context) {
	EndQuery(context); // a begin that threw half-way has left its entry
	QueryEntry entry;
	entry.origin.database_id = databases.Of(context.db.get());
	entry.origin.connection_id = context.GetConnectionId();
	entry.origin.query_id = context.transaction.GetActiveQuery();
	entry.origin.tag = TagOf(context, context.GetCurrentQuery());
	entry.start_ns = NowNs();
	entry.hash = PinHashProgram();
	if (queries.Insert(context, entry)) {
		active_queries.fetch_add(1, std::memory_order_relaxed);
	} else {
		Unpin(entry.hash);
	}
}

void NextStatement(duckdb::ClientContext &context) {
	if (auto entry = queries.Find(context)) {
		entry->origin.query_id = context.transaction.GetActiveQuery();
		entry->origin.tag = TagOf(context, context.GetCurrentQuery());
	}
}

void EndQuery(duckdb::ClientContext &context) {
	QueryEntry entry;
	if (!queries.Remove(context, entry)) {
		return;
	}
	active_queries.fetch_sub(1, std::memory_order_relaxed);
	if (entry.hash) {
		UnbindFilters(context);
		Unpin(entry.hash);
	}
	WriteProgramLog(context);
}

idx_t ActiveQueries() {
	return active_queries.load(std::memory_order_relaxed);
}

uint64_t DatabaseNumber(const duckdb::DatabaseInstance &db) {
	return databases.Of(&db);
}

void RegisterDatabase(duckdb::DatabaseInstance &db) {
	databases.Renew(&db);
}

IdentityScope::IdentityScope() {
	const auto &thread = Thread();
	previous = thread.origin;
	previous_start = thread.query_start_ns;
	previous_database = thread.database;
}

IdentityScope::~IdentityScope() {
	auto &thread = Thread();
	if (MayRename(thread)) {
		thread.origin = previous;
		thread.query_start_ns = previous_start;
		thread.database = previous_database;
	}
}

QueryScope::QueryScope(duckdb::ClientContext &context) {
	auto &thread = Thread();
	if (MayRename(thread)) {
		Enter(thread, context);
	}
}

TaskScope::TaskScope(duckdb::ClientContext *context) {
	auto &thread = Thread();
	if (!MayRename(thread)) {
		return;
	}
	thread.task_depth++;
	if (context) {
		Enter(thread, *context);
	} else {
		// Work without a query, a checkpoint's: of this database still, of no query.
		thread.origin.connection_id = 0;
		thread.origin.query_id = 0;
		thread.query_start_ns = 0;
	}
}

TaskScope::~TaskScope() {
	auto &thread = Thread();
	if (MayRename(thread)) {
		thread.task_depth--;
		thread.last_task_origin = thread.origin;
		thread.last_task_start_ns = thread.query_start_ns;
	}
}

ResumeScope::ResumeScope() {
	auto &thread = Thread();
	if (MayRename(thread)) {
		thread.origin = thread.last_task_origin;
		thread.query_start_ns = thread.last_task_start_ns;
	}
}

WorkerScope::WorkerScope(duckdb::DatabaseInstance &db) {
	auto &thread = Thread();
	was_worker = thread.in_worker_loop;
	if (MayRename(thread)) {
		thread.origin.database_id = databases.Of(&db);
		thread.database = &db;
		thread.in_worker_loop = true;
	}
}

WorkerScope::~WorkerScope() {
	auto &thread = Thread();
	if (MayRename(thread)) {
		thread.in_worker_loop = was_worker;
	}
}

} // namespace duckbpf
