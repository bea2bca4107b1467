//! The hookpoints of files: prefetch, and file_read.

#include "blocks.hpp"
#include "call.hpp"
#include "duckbpf/host.hpp"
#include "names.hpp"

#include "duckdb/main/client_context.hpp"
#include "duckdb/storage/block_manager.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

//===--------------------------------------------------------------------===//
// prefetch
//===--------------------------------------------------------------------===//
namespace {

//! What a program says at any of the sites. Each site takes its part of it.
class Plan {
public:
	Plan(duckbpf_prefetch_site site, uint64_t stock, optional_ptr<const BlockManager> manager, BufferPool &pool,
	     uint64_t blocks = 0)
	    : call(DUCKBPF_HOOK_PREFETCH) {
		if (!call.Has()) {
			return;
		}
		duckbpf_prefetch_ctx ctx {};
		ctx.origin = call.Origin();
		ctx.file_id = manager ? FileNumber(*manager) : 0;
		ctx.block_size = manager ? manager->GetBlockAllocSize() : 0;
		ctx.blocks = blocks;
		ctx.stock = stock;
		ctx.used_memory = pool.GetUsedMemory(false);
		ctx.max_memory = pool.GetMaxMemory();
		ctx.site = site;
		decision = call.Run(ctx);
		if (decision && (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_PREFETCH_BITS))) {
			call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
			decision = 0;
		}
	}

	bool IsStock() const {
		return decision == 0;
	}
	bool Wants() const {
		return decision & DUCKBPF_PREFETCH_ON;
	}
	uint64_t Depth() const {
		return DUCKBPF_PREFETCH_DEPTH(decision);
	}
	uint64_t RunBytes() const {
		return DUCKBPF_PREFETCH_RUN_KIB(decision) << 10;
	}
	void Apply() {
		call.Apply();
	}
	void Refuse(duckbpf_refusal reason) {
		call.Refuse(reason);
	}

private:
	ProgramCall call;
	uint64_t decision = 0;
};

} // namespace

FilePlan PlanFile(const BlockManager &manager, bool stock) {
	Plan plan(DUCKBPF_PREFETCH_FILE, stock, manager, manager.buffer_manager.GetBufferPool());
	if (plan.IsStock()) {
		return FilePlan::STOCK;
	}
	plan.Apply();
	return plan.Wants() ? FilePlan::PREFETCH : FilePlan::DO_NOT;
}

idx_t PlanDepth(ClientContext &context, int64_t stock) {
	Plan plan(DUCKBPF_PREFETCH_SCAN, static_cast<uint64_t>(stock), nullptr,
	          BufferManager::GetBufferManager(context).GetBufferPool());
	if (plan.IsStock() || plan.Depth() == 0) {
		return 0;
	}
	plan.Apply();
	return plan.Depth();
}

idx_t PlanRun(const BlockHandle &first, idx_t blocks, idx_t stock) {
	auto &manager = first.GetBlockManager();
	Plan plan(DUCKBPF_PREFETCH_RUN, stock, manager, manager.buffer_manager.GetBufferPool(), blocks);
	if (plan.IsStock() || plan.RunBytes() == 0) {
		return stock;
	}
	const auto bytes = MinValue(MaxValue<idx_t>(plan.RunBytes(), manager.GetBlockAllocSize()), stock);
	if (bytes == plan.RunBytes()) {
		plan.Apply();
	} else {
		plan.Refuse(DUCKBPF_REFUSED_CLAMPED);
	}
	return bytes;
}

//===--------------------------------------------------------------------===//
// file_read
//===--------------------------------------------------------------------===//
uint64_t FileReadScope::Now() {
	return NowNs();
}

void FileReadScope::Tell() const {
	ProgramCall call(DUCKBPF_HOOK_FILE_READ);
	if (!call.Has()) {
		return;
	}
	duckbpf_file_read_ctx ctx {};
	ctx.origin = call.Origin();
	ctx.path_id = NumberOfName(path);
	ctx.bytes = static_cast<uint64_t>(bytes);
	ctx.duration_ns = NowNs() - begin;
	call.Run(ctx);
}

} // namespace duckbpf
