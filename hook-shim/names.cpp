//! Numbers for names.

#include "names.hpp"

#include "duckdb/common/crypto/md5.hpp"
#include "duckdb/common/string_util.hpp"
#include "duckdb/storage/table/data_table_info.hpp"

#include <cstring>

namespace duckbpf {

uint64_t NumberOfName(const duckdb::string &name) {
	duckdb::data_t digest[duckdb::MD5Context::MD5_HASH_LENGTH_BINARY];
	duckdb::MD5Context md5;
	md5.Add(name);
	md5.Finish(digest);
	uint64_t number;
	memcpy(&number, digest, sizeof(number));
	return number;
}

uint64_t NumberOfTable(duckdb::DataTableInfo &info) {
	const auto name = info.GetSchemaName().GetIdentifierName() + "." + info.GetTableName().GetIdentifierName();
	return NumberOfName(duckdb::StringUtil::Lower(name));
}

} // namespace duckbpf
