//! The hookpoint of log entries.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "names.hpp"

#include "duckdb/logging/logging.hpp"

#include <cstring>

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

//! DuckDB's levels go up in tens
static bool IsLevel(uint64_t level) {
	return level >= static_cast<uint64_t>(LogLevel::LOG_TRACE) && level <= static_cast<uint64_t>(LogLevel::LOG_FATAL) &&
	       level % 10 == 0;
}

bool KeepsLogEntry(const char *type, const char *message, LogLevel &level) {
	// Lines that programs wrote are on their way to the log: a program that writes a line for each would never end.
	if (Thread().writing_lines) {
		return true;
	}
	ProgramCall call(DUCKBPF_HOOK_LOG);
	if (!call.Has()) {
		return true;
	}
	duckbpf_log_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.type_id = NumberOfName(type);
	ctx.message_bytes = strlen(message);
	ctx.level = static_cast<uint32_t>(level);
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return true;
	}
	const auto raised = DUCKBPF_LOG_LEVEL(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_LOG_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return true;
	}
	if (raised && (!IsLevel(raised) || raised < ctx.level || (decision & DUCKBPF_LOG_DROP))) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return true;
	}
	call.Apply();
	if (raised) {
		level = static_cast<LogLevel>(raised);
	}
	return !(decision & DUCKBPF_LOG_DROP);
}

} // namespace duckbpf
