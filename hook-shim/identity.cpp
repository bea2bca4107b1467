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
#include "profile.hpp"
#include "table.hpp"
#include "tags.hpp"

#include "duckdb/logging/logger.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/parser/sql_statement.hpp"
#include "duckdb/transaction/transaction_context.hpp"

#include <algorithm>

#include <time.h>

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

bool NamesHookFunction(const duckdb::string &text) {
	static constexpr char NAME[] = "hook_";
	const auto same = [](char a, char b) { return (a | 32) == (b | 32); };
	return std::search(text.begin(), text.end(), NAME, NAME + sizeof(NAME) - 1, same) != text.end();
}

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
	thread.query = entry;
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

static EndedQuery DropEntry(duckdb::ClientContext &context) {
	QueryEntry entry;
	if (!queries.Remove(context, entry)) {
		return EndedQuery();
	}
	active_queries.fetch_sub(1, std::memory_order_relaxed);
	// The commit that follows works for nobody whose entry is there.
	Thread().query = nullptr;
	ForgetRun(context);
	if (entry.profile) {
		EndProfile(context);
	}
	if (entry.hash) {
		UnbindFilters(context);
		Unpin(entry.hash);
	}
	WriteProgramLog(context);
	EndedQuery ended;
	ended.is_known = true;
	ended.klass = entry.klass;
	ended.start_ns = entry.start_ns;
	ended.waited_ns = entry.waited_ns;
	ended.tag = entry.origin.tag;
	ended.fingerprint = entry.fingerprint;
	ended.cpu_ns = entry.cpu_ns;
	ended.rows = entry.rows;
	ended.spill_bytes = entry.spill_bytes;
	ended.peak_memory = entry.peak_memory;
	return ended;
}

void BeginQuery(duckdb::ClientContext &context, bool steers) {
	DropEntry(context); // a begin that threw half-way has left its entry
	QueryEntry entry;
	entry.origin.database_id = databases.Of(context.db.get());
	entry.origin.connection_id = context.GetConnectionId();
	entry.origin.query_id = context.transaction.GetActiveQuery();
	entry.origin.tag = TagOf(context, context.GetCurrentQuery());
	entry.start_ns = NowNs();
	entry.hash = PinHashProgram();
	entry.steers = steers;
	FindGuest(context, entry.klass, entry.waited_ns);
	if (DescribesQueries()) {
		const auto &text = context.GetCurrentQuery();
		entry.fingerprint = Fingerprint(text.data(), text.size());
	}
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

EndedQuery EndQuery(duckdb::ClientContext &context) {
	LeaveHall(context);
	return DropEntry(context);
}

//! The entry of the query that the calling thread works for. A scope that ends after its query restores an entry that may be another
//! query's by now.
static QueryEntry *OwnQuery() {
	const auto &thread = Thread();
	const auto query = thread.query;
	const bool is_own = query && query->origin.query_id == thread.origin.query_id &&
	                    query->origin.database_id == thread.origin.database_id;
	return is_own ? query : nullptr;
}

void CountRows(idx_t rows) {
	if (auto query = OwnQuery()) {
		__atomic_fetch_add(&query->rows, rows, __ATOMIC_RELAXED);
	}
}

void CountSpill(idx_t bytes) {
	if (auto query = OwnQuery()) {
		__atomic_fetch_add(&query->spill_bytes, bytes, __ATOMIC_RELAXED);
	}
}

void CountMemory(int64_t delta) {
	auto query = OwnQuery();
	if (!query) {
		return;
	}
	const auto used = __atomic_add_fetch(&query->memory, delta, __ATOMIC_RELAXED);
	auto peak = __atomic_load_n(&query->peak_memory, __ATOMIC_RELAXED);
	while (used > peak && !__atomic_compare_exchange_n(&query->peak_memory, &peak, used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
}

Profile *OwnProfile() {
	auto query = OwnQuery();
	return query ? __atomic_load_n(&query->profile, __ATOMIC_RELAXED) : nullptr;
}

idx_t ActiveQueries() {
	return active_queries.load(std::memory_order_relaxed);
}

uint64_t DatabaseNumber(const duckdb::DatabaseInstance &db) {
	return databases.Of(&db);
}

bool Steers(const duckdb::SQLStatement &statement) {
	if (!Attached(DUCKBPF_HOOK_RUN_TASK) && !Attached(DUCKBPF_HOOK_QUERY_BEGIN)) {
		return false;
	}
	switch (statement.type) {
	case duckdb::StatementType::SELECT_STATEMENT:
	case duckdb::StatementType::INSERT_STATEMENT:
	case duckdb::StatementType::UPDATE_STATEMENT:
	case duckdb::StatementType::DELETE_STATEMENT:
	case duckdb::StatementType::MERGE_INTO_STATEMENT:
	case duckdb::StatementType::CREATE_STATEMENT:
	case duckdb::StatementType::EXECUTE_STATEMENT:
	case duckdb::StatementType::EXPLAIN_STATEMENT:
	case duckdb::StatementType::COPY_STATEMENT:
	case duckdb::StatementType::EXPORT_STATEMENT:
	case duckdb::StatementType::CALL_STATEMENT:
	case duckdb::StatementType::RELATION_STATEMENT:
	case duckdb::StatementType::LOGICAL_PLAN_STATEMENT:
		return NamesHookFunction(statement.query);
	default:
		return true;
	}
}

uint64_t ThreadCpuNs() {
	timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return static_cast<uint64_t>(now.tv_sec) * 1000000000ULL + static_cast<uint64_t>(now.tv_nsec);
}

void RegisterDatabase(duckdb::DatabaseInstance &db) {
	databases.Renew(&db);
}

IdentityScope::IdentityScope() {
	const auto &thread = Thread();
	previous = thread.origin;
	previous_query = thread.query;
	previous_start = thread.query_start_ns;
	previous_database = thread.database;
}

IdentityScope::~IdentityScope() {
	auto &thread = Thread();
	if (MayRename(thread)) {
		thread.origin = previous;
		thread.query = previous_query;
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
		if (DescribesQueries() && thread.task_depth == 1 && thread.query) {
			accounted = thread.query;
			cpu_begin_ns = ThreadCpuNs();
		}
	} else {
		// Work without a query, a checkpoint's: of this database still, of no query.
		thread.origin.connection_id = 0;
		thread.origin.query_id = 0;
		thread.query = nullptr;
		thread.query_start_ns = 0;
	}
}

TaskScope::~TaskScope() {
	auto &thread = Thread();
	if (accounted) {
		__atomic_fetch_add(&accounted->cpu_ns, ThreadCpuNs() - cpu_begin_ns, __ATOMIC_RELAXED);
	}
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
