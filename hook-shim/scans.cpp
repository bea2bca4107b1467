//! The hookpoint of table scans, and the hint that a scan gives the blocks that it reads.

#include "blocks.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"
#include "names.hpp"
#include "table.hpp"

#include "duckdb/function/table_function.hpp"
#include "duckdb/planner/table_filter_set.hpp"
#include "duckdb/storage/block_manager.hpp"
#include "duckdb/storage/data_table.hpp"
#include "duckdb/storage/table/data_table_info.hpp"
#include "duckdb/storage/table_io_manager.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

std::atomic<idx_t> hinted_scans {0};

namespace {

//! A scan that finds its bucket full gives no hints
BucketTable<GlobalTableFunctionState, duckbpf_hint, 8> scans;

} // namespace

void BeginScan(GlobalTableFunctionState &scan, DataTable &table, const TableFunctionInitInput &input) {
	ProgramCall call(DUCKBPF_HOOK_SCAN_BEGIN);
	if (!call.Has()) {
		return;
	}
	auto &manager = table.GetTableIOManager().GetBlockManagerForRowData();
	auto &pool = manager.buffer_manager.GetBufferPool();
	duckbpf_scan_begin_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.table_id = NumberOfTable(*table.GetDataTableInfo());
	ctx.file_id = FileNumber(manager);
	ctx.rows = table.GetTotalRows();
	ctx.used_memory = pool.GetUsedMemory(false);
	ctx.max_memory = pool.GetMaxMemory();
	ctx.columns = static_cast<uint32_t>(input.column_indexes.size());
	ctx.table_columns = static_cast<uint32_t>(table.ColumnCount());
	ctx.filters = input.filters ? static_cast<uint32_t>(input.filters->FilterCount()) : 0;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return;
	}
	const auto hint = DUCKBPF_SCAN_BEGIN_HINT(decision);
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_SCAN_BEGIN_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
	} else if (hint == DUCKBPF_HINT_NONE || hint >= DUCKBPF_HINT_COUNT) {
		call.Refuse(DUCKBPF_REFUSED_OUT_OF_RANGE);
	} else {
		if (scans.Insert(scan, static_cast<duckbpf_hint>(hint))) {
			hinted_scans.fetch_add(1, std::memory_order_relaxed);
		}
		call.Apply();
	}
}

void ForgetScan(const GlobalTableFunctionState &scan) {
	duckbpf_hint hint;
	if (scans.Remove(scan, hint)) {
		hinted_scans.fetch_sub(1, std::memory_order_relaxed);
	}
}

void ScanScope::Enter(const GlobalTableFunctionState &scan) {
	const auto hint = Attached(DUCKBPF_HOOK_SCAN_BEGIN) ? scans.Find(scan) : nullptr;
	Thread().scan_hint = hint ? *hint : DUCKBPF_HINT_NONE;
}

void ScanScope::Leave() {
	Thread().scan_hint = DUCKBPF_HINT_NONE;
}

} // namespace duckbpf
