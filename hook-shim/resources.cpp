//! The hookpoints pipeline_threads and operator_memory: how much of the machine a part of a query gets.

#include "call.hpp"
#include "duckbpf/host.hpp"
#include "identity.hpp"

#include "duckdb/execution/physical_operator.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/parallel/pipeline.hpp"

namespace duckbpf {

using namespace duckdb; // NOLINT: this file speaks DuckDB

idx_t DecideThreads(Pipeline &pipeline, idx_t stock, idx_t threads) {
	ProgramCall call(DUCKBPF_HOOK_PIPELINE_THREADS);
	if (!call.Has()) {
		return stock;
	}
	duckbpf_pipeline_threads_ctx ctx {};
	ctx.origin = call.Origin();
	if (auto entry = FindQuery(pipeline.GetClientContext())) {
		ctx.origin = entry->origin;
		ctx.origin.thread_index = call.Origin().thread_index;
		ctx.fingerprint = entry->fingerprint;
		ctx.klass = entry->klass;
	}
	ctx.max_threads = stock;
	ctx.threads = threads;
	ctx.active_queries = ActiveQueries();
	auto source = pipeline.GetSource();
	auto sink = pipeline.GetSink();
	ctx.cardinality = source ? source->estimated_cardinality : 0;
	ctx.source = source ? static_cast<uint32_t>(source->type) : 0;
	ctx.sink = sink ? static_cast<uint32_t>(sink->type) : 0;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return stock;
	}
	if (!(decision & DUCKBPF_DECIDED) || (decision & ~DUCKBPF_THREADS_BITS)) {
		call.Refuse(DUCKBPF_REFUSED_UNKNOWN_BITS);
		return stock;
	}
	const idx_t wanted = DUCKBPF_THREADS_OF(decision);
	if (wanted < 1 || wanted > stock) {
		call.Refuse(DUCKBPF_REFUSED_CLAMPED);
		return wanted < 1 ? 1 : stock;
	}
	call.Apply();
	return wanted;
}

idx_t DecideReservation(ClientContext &context, const Reservation &bounds, idx_t stock) {
	ProgramCall call(DUCKBPF_HOOK_OPERATOR_MEMORY);
	if (!call.Has()) {
		return stock;
	}
	duckbpf_operator_memory_ctx ctx {};
	ctx.origin = call.Origin();
	if (auto entry = FindQuery(context)) {
		ctx.fingerprint = entry->fingerprint;
		ctx.klass = entry->klass;
	}
	ctx.lower = bounds.lower;
	ctx.upper = bounds.upper;
	ctx.stock = stock;
	ctx.remaining_size = bounds.remaining_size;
	ctx.previous = bounds.previous;
	ctx.reserved = bounds.reserved;
	ctx.limit = bounds.limit;
	ctx.operators = bounds.operators;
	const auto decision = call.Run(ctx);
	if (decision == 0) {
		return stock;
	}
	if (decision < bounds.lower || decision > bounds.upper) {
		call.Refuse(DUCKBPF_REFUSED_CLAMPED);
		return decision < bounds.lower ? bounds.lower : bounds.upper;
	}
	call.Apply();
	return decision;
}

} // namespace duckbpf
