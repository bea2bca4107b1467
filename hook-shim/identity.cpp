//! Whose work a thread does: queries by their ClientContext, databases by their DatabaseInstance, and the ids that ride into
//! every context.
//!
//! A query's entry lives from BeginQuery to EndQuery and holds what was fixed at its begin: its ids, its start and the hash
//! program. Lookups are lock-free. Scopes only note the ClientContext (host.hpp); ids are looked up when the first program
//! since then asks, hence while the scope is open and the ClientContext alive. An entry is only looked up by threads that
//! work for the query, hence while it exists.

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

} // namespace

QueryEntry *FindQuery(duckdb::ClientContext &context) {
	return queries.Find(context);
}

static void DropEntry(duckdb::ClientContext &context) {
	QueryEntry entry;
	if (!queries.Remove(context, entry)) {
		return;
	}
	local.identified = false;
	active_queries.fetch_sub(1, std::memory_order_relaxed);
	if (SlotsInForce()) {
		ForgetRun(context);
	}
	if (entry.profile) {
		EndProfile(context);
	}
	if (entry.hash) {
		hash_queries.fetch_sub(1, std::memory_order_relaxed);
		UnbindFilters(context);
		Unpin(entry.hash);
	}
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
	if (!queries.Insert(context, entry)) {
		Unpin(entry.hash);
		return;
	}
	local.identified = false;
	active_queries.fetch_add(1, std::memory_order_relaxed);
	hash_queries.fetch_add(entry.hash != nullptr, std::memory_order_relaxed);
}

void NextStatement(duckdb::ClientContext &context) {
	if (auto entry = queries.Find(context)) {
		entry->origin.query_id = context.transaction.GetActiveQuery();
		entry->origin.tag = TagOf(context, context.GetCurrentQuery());
		local.identified = false;
	}
}

void EndQuery(duckdb::ClientContext &context) {
	LeaveHall(context);
	DropEntry(context);
}

void CountRows(idx_t rows) {
	if (auto query = IdentifiedThread().query) {
		__atomic_fetch_add(&query->rows, rows, __ATOMIC_RELAXED);
	}
}

void CountSpill(idx_t bytes) {
	if (auto query = IdentifiedThread().query) {
		__atomic_fetch_add(&query->spill_bytes, bytes, __ATOMIC_RELAXED);
	}
}

void CountMemory(int64_t delta) {
	auto query = IdentifiedThread().query;
	if (!query) {
		return;
	}
	const auto used = __atomic_add_fetch(&query->memory, delta, __ATOMIC_RELAXED);
	auto peak = __atomic_load_n(&query->peak_memory, __ATOMIC_RELAXED);
	while (used > peak && !__atomic_compare_exchange_n(&query->peak_memory, &peak, used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
}

Profile *OwnProfile() {
	auto query = IdentifiedThread().query;
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

void TaskScope::BeginAccount(duckdb::ClientContext &context) {
	if (local.task_depth > 1) {
		return; // inside another task, whose time it is
	}
	accounted = queries.Find(context);
	local.cpu_begin_ns = ThreadCpuNs();
}

void TaskScope::EndAccount() {
	AccountCpu(*accounted);
	local.cpu_begin_ns = 0;
}

void AccountCpu(QueryEntry &query) {
	const auto now = ThreadCpuNs();
	if (local.cpu_begin_ns) {
		__atomic_fetch_add(&query.cpu_ns, now - local.cpu_begin_ns, __ATOMIC_RELAXED);
		local.cpu_begin_ns = now;
	}
}

void Identify(ThreadState &thread) {
	if (!thread.taken.load(std::memory_order_relaxed)) {
		return; // shared by all threads that are about to exit
	}
	auto context = reinterpret_cast<duckdb::ClientContext *>(local.work & ~NO_QUERY);
	auto entry = context && !(local.work & NO_QUERY) ? queries.Find(*context) : nullptr;
	thread.query = entry;
	thread.database = context ? context->db.get() : local.database;
	thread.origin = entry ? entry->origin : duckbpf_origin {};
	thread.query_start_ns = entry ? entry->start_ns : 0;
	if (!entry && thread.database) {
		thread.origin.database_id = databases.Of(thread.database);
	}
	thread.origin.thread_index = thread.index;
	local.identified = true;
}

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

} // namespace duckbpf
