//! Functions that hookpoints leave to the host's own code. Crate duckbpf-graft looks the symbols up (graft/src/stock.rs).

#include "duckbpf/host.hpp"

namespace duckbpf {

void *stock_code[DUCKBPF_STOCK_COUNT];

const char *const stock_symbols[DUCKBPF_STOCK_COUNT] = {
    "_ZN6duckdb23DuckTableScanInitGlobalERNS_13ClientContextERNS_22TableFunctionInitInputERNS_9DataTableERKNS_17TableScanBindDataE",
    "_ZN6duckdb22SingleFileBlockManager8PrefetchEv",
    "_ZN6duckdb25GroupedAggregateHashTable14ReinsertTuplesERNS_20PartitionedTupleDataE",
};

} // namespace duckbpf
