//! The memory of maps. Private to hook-shim.
#pragma once

#include "duckbpf/abi.h"

namespace duckbpf {

//! See duckbpf_host.account_memory
int AccountMemory(__u64 bytes);

} // namespace duckbpf
