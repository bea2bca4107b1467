//! The hookpoint of compression.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "names.hpp"

#include "duckdb/storage/table/column_data.hpp"
#include "duckdb/storage/table/data_table_info.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

idx_t WeighCompression(ColumnData &column, uint32_t method, idx_t score) {
	ProgramCall call(DUCKBPF_HOOK_COMPRESSION);
	if (!call.Has()) {
		return score;
	}
	duckbpf_compression_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.table_id = NumberOfTable(column.info);
	ctx.score = score;
	ctx.column = static_cast<uint32_t>(column.column_index);
	ctx.physical_type = static_cast<uint32_t>(column.type.InternalType());
	ctx.method = method;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return score;
	}
	const auto weight = DUCKBPF_COMPRESSION_WEIGHT_OF(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_COMPRESSION_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return score;
	}
	if (weight == 0) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
		return score;
	}
	call.Apply();
	// Scores are bytes, far below 2^48; the largest number means that a method is not valid.
	return MinValue<idx_t>(score, (1ULL << 46) - 1) * weight / DUCKBPF_COMPRESSION_ONE;
}

} // namespace duckbpf
