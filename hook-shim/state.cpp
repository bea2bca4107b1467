//! What the engine tells programs of its state, through helpers: counters that it keeps anyway. Called under a block's lock, so
//! nothing here takes one.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "queues.hpp"

#include "duckdb/common/enums/memory_tag.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/storage/buffer/buffer_pool.hpp"
#include "duckdb/storage/buffer_manager.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

namespace {

//! As in queues.hpp.
template <auto MEMBER>
struct ExposeUsage {
	friend int64_t TagMemory(BufferPool &pool, idx_t tag) {
		return (pool.*MEMBER).memory_usage[tag].load(std::memory_order_relaxed);
	}
};
int64_t TagMemory(BufferPool &pool, idx_t tag);
template struct ExposeUsage<&BufferPool::memory_usage>;

__u64 DatabaseState(DatabaseInstance &database, __u32 what, __u64 argument) {
	auto &buffers = database.GetBufferManager();
	switch (what) {
	case DUCKBPF_STATE_USED_MEMORY:
		return buffers.GetBufferPool().GetUsedMemory(false);
	case DUCKBPF_STATE_MAX_MEMORY:
		return buffers.GetBufferPool().GetMaxMemory();
	case DUCKBPF_STATE_TAG_MEMORY: {
		const auto used = argument < MEMORY_TAG_COUNT ? TagMemory(buffers.GetBufferPool(), argument) : 0;
		return used > 0 ? static_cast<__u64>(used) : 0;
	}
	case DUCKBPF_STATE_QUEUE_LENGTH:
		return argument < DUCKBPF_POOL_COUNT ? QueuesOf(database.GetScheduler())[argument]->GetTasksInQueue() : 0;
	case DUCKBPF_STATE_EVICTION_QUEUE:
		return EvictionQueueLength(buffers.GetBufferPool(), argument);
	case DUCKBPF_STATE_THREADS:
		return static_cast<__u64>(database.GetScheduler().NumberOfThreads());
	case DUCKBPF_STATE_SPILL_BYTES:
		return buffers.GetUsedSwap();
	default:
		return 0;
	}
}

} // namespace

__u64 EngineState(__u32 what, __u64 argument) {
	auto &thread = IdentifiedThread();
	switch (what) {
	case DUCKBPF_STATE_ACTIVE_QUERIES:
		return ActiveQueries();
	case DUCKBPF_STATE_BUFFER_HITS:
		return thread.buffer_hits;
	case DUCKBPF_STATE_BUFFER_MISSES:
		return thread.buffer_misses;
	default:
		return thread.database ? DatabaseState(*thread.database, what, argument) : 0;
	}
}

} // namespace duckbpf
