//! What programs cost a query that DuckDB profiles. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"

#include <atomic>
#include <cstdint>

namespace duckdb {
class ClientContext;
}

namespace duckbpf {

//! Calls of programs for one query that is profiled, by hook: added to by its threads. Never freed, for a thread may still add to
//! one whose query has just ended.
struct Profile {
	std::atomic<bool> taken {false};
	std::atomic<uint64_t> calls[DUCKBPF_HOOK_COUNT] {};
	std::atomic<uint64_t> ns[DUCKBPF_HOOK_COUNT] {};
};

//! The query has ended
void EndProfile(duckdb::ClientContext &context);
//! Of the query that the calling thread works for; null: it is not profiled (identity.cpp)
Profile *OwnProfile();

} // namespace duckbpf
