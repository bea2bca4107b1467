//! A query's entry. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"

#include <cstdint>

namespace duckdb {
class ClientContext;
class DatabaseInstance;
}

namespace duckbpf {

struct Profile;

struct QueryEntry {
	duckbpf_origin origin {};
	uint64_t start_ns = 0;
	//! Pinned until the query ends; null: stock
	duckbpf_program *hash = nullptr;
	//! Nobody may hold it up
	bool steers = false;
	uint64_t fingerprint = 0;
	//! Of query_begin
	uint32_t klass = 0;
	uint64_t waited_ns = 0;
	// What it used: added to by its threads, with atomic operations
	//! Thread CPU of its tasks
	uint64_t cpu_ns = 0;
	uint64_t rows = 0;
	uint64_t spill_bytes = 0;
	int64_t memory = 0;
	int64_t peak_memory = 0;
	//! Null: it is not profiled
	Profile *profile = nullptr;
};

//! The entry of a query that runs, or null. Valid while the query runs.
QueryEntry *FindQuery(duckdb::ClientContext &context);
//! The number of a database in this process
uint64_t DatabaseNumber(const duckdb::DatabaseInstance &db);
//! The calling thread's CPU time
uint64_t ThreadCpuNs();
//! Adds to what the query used what the task that the calling thread runs did since it was accounted last
void AccountCpu(QueryEntry &query);
//! What query_begin gave the query that now begins; false when it was not asked (admission.cpp)
bool FindGuest(const duckdb::ClientContext &context, uint32_t &klass, uint64_t &waited_ns);
//! Of a query's text (fingerprint.cpp)
uint64_t Fingerprint(const char *text, uint64_t size);
//! The query ends: its bloom filters are gone (filters.cpp)
void UnbindFilters(duckdb::ClientContext &context);

} // namespace duckbpf
