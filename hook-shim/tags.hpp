//! Tags of queries. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"

#include <cstdint>
#include <string>

namespace duckdb {
class ClientContext;
}

namespace duckbpf {

//! The number of a query's tag: of the one in its sqlcommenter comment, else of its connection's setting hook_tag; 0: it has none.
//! Called where a query begins, outside of the locks that a hook may hold.
uint32_t TagOf(const duckdb::ClientContext &context, const std::string &query);
//! Copies a tag's text, at most `size` bytes, and returns its bytes; 0: there is no such tag. Takes no lock.
__u64 TagText(__u32 tag, char *text, __u64 size);

} // namespace duckbpf
