//! Numbers for names: of tables, of files. Private to hook-shim.
#pragma once

#include "duckdb/common/common.hpp"

namespace duckdb {
class DataTableInfo;
}

namespace duckbpf {

//! The same in every process, and in SQL: (md5_number(name) % 18446744073709551616)::UBIGINT
uint64_t NumberOfName(const duckdb::string &name);
//! Of 'schema.table' in lower case
uint64_t NumberOfTable(duckdb::DataTableInfo &info);

} // namespace duckbpf
