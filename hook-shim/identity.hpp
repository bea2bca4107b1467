//! A query's entry. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"

#include <cstdint>

namespace duckdb {
class ClientContext;
class DatabaseInstance;
}

namespace duckbpf {

struct QueryEntry {
	duckbpf_origin origin {};
	uint64_t start_ns = 0;
	//! Pinned until the query ends; null: stock
	duckbpf_program *hash = nullptr;
};

//! The entry of a query that runs, or null. Valid while the query runs.
QueryEntry *FindQuery(duckdb::ClientContext &context);
//! The number of a database in this process
uint64_t DatabaseNumber(const duckdb::DatabaseInstance &db);
//! The query ends: its bloom filters are gone (hash.cpp)
void UnbindFilters(duckdb::ClientContext &context);

} // namespace duckbpf
