//! Tells a database what the runtime's maps take: duckdb_memory() shows it as EXTENSION, and it counts against memory_limit.
//!
//! Maps are the process', databases come and go. The one whose thread made the first map keeps the account until it is closed; then the
//! next one that makes or frees a map takes all of it over.

#include "account.hpp"

#include "call.hpp"

#include "duckdb/main/database.hpp"
#include "duckdb/storage/buffer_manager.hpp"

#include <mutex>

namespace duckbpf {

namespace {

struct Account {
	std::mutex lock;
	duckdb::weak_ptr<duckdb::DatabaseInstance> keeper;
	uint64_t bytes = 0;
};

//! Never destroyed: databases may outlive the end of main
Account &TheAccount() {
	static auto &account = *new Account();
	return account;
}

} // namespace

int AccountMemory(__u64 bytes) {
	auto &account = TheAccount();
	// Before the lock, to outlive it: where this is the last hold on a database, that closes, and maps may go with it.
	duckdb::shared_ptr<duckdb::DatabaseInstance> keeper;
	const std::lock_guard<std::mutex> guard(account.lock);
	try {
		keeper = account.keeper.lock();
		if (!keeper) {
			account.bytes = 0;
			auto database = IdentifiedThread().database;
			if (!database) {
				return DUCKBPF_OK;
			}
			keeper = database->shared_from_this();
			account.keeper = keeper;
		}
		auto &buffers = keeper->GetBufferManager();
		if (bytes > account.bytes) {
			buffers.ReserveMemory(bytes - account.bytes);
		} else {
			buffers.FreeReservedMemory(account.bytes - bytes);
		}
		account.bytes = bytes;
		return DUCKBPF_OK;
	} catch (...) {
		return DUCKBPF_ERROR_MEMORY;
	}
}

} // namespace duckbpf
