//! Bloom filters of joins: bound to the hash program of the query that builds them, since whoever probes one has no context at hand.

#include "duckbpf/host.hpp"
#include "identity.hpp"
#include "table.hpp"

#include "duckdb/planner/filter/table_filter_functions.hpp"

#include <mutex>
#include <unordered_map>

namespace duckbpf {

using duckdb::BloomFilter;
using duckdb::ClientContext;

std::atomic<idx_t> bound_filters {0};

namespace {

//! Filters of queries that pinned a program. Lookups take no lock, unless a bucket has overflowed. Binding never fails in
//! silence: a filter that was built by the program and probed by stock would drop rows, so running out of memory here ends the
//! query.
class FilterTable {
	struct Bound {
		const ClientContext *context;
		const duckbpf_program *program;
	};

public:
	//! A filter is bound, or said to be stock's, before anybody can probe it
	void Bind(const BloomFilter &filter, const ClientContext &context, const duckbpf_program *program) {
		const std::lock_guard<std::mutex> guard(lock);
		auto it = bound.find(&filter);
		if (it != bound.end()) {
			Erase(it); // of a query whose filter died at this address
		}
		if (program) {
			bound.emplace(&filter, Bound {&context, program});
			overflowed += !table.Insert(filter, program);
			Publish();
		}
	}
	//! The query ends, and with it the filters that are still its own
	void Unbind(const ClientContext &context) {
		const std::lock_guard<std::mutex> guard(lock);
		for (auto it = bound.begin(); it != bound.end();) {
			it = it->second.context == &context ? Erase(it) : std::next(it);
		}
	}
	const duckbpf_program *Find(const BloomFilter &filter) {
		if (auto found = table.Find(filter)) {
			return *found;
		}
		if (!any_overflowed.load(std::memory_order_acquire)) {
			return nullptr;
		}
		const std::lock_guard<std::mutex> guard(lock);
		auto it = bound.find(&filter);
		return it == bound.end() ? nullptr : it->second.program;
	}

private:
	using Map = std::unordered_map<const BloomFilter *, Bound>;

	Map::iterator Erase(Map::iterator it) {
		const duckbpf_program *removed;
		overflowed -= !table.Remove(*it->first, removed);
		it = bound.erase(it);
		Publish();
		return it;
	}
	void Publish() {
		any_overflowed.store(overflowed != 0, std::memory_order_release);
		// Relaxed: whoever may probe a filter has heard of it from the thread that bound it.
		bound_filters.store(bound.size(), std::memory_order_relaxed);
	}

	//! Held by whoever binds and unbinds
	std::mutex lock;
	Map bound;
	idx_t overflowed = 0;
	//! What is bound, but for what overflowed
	BucketTable<BloomFilter, const duckbpf_program *, 10> table;
	std::atomic<bool> any_overflowed {false};
};

FilterTable filters;

} // namespace

void RebindFilter(ClientContext &context, const BloomFilter &filter) {
	auto entry = FindQuery(context);
	filters.Bind(filter, context, entry ? entry->hash : nullptr);
}

const duckbpf_program *FilterProgram(const BloomFilter &filter) {
	return filters.Find(filter);
}

void UnbindFilters(ClientContext &context) {
	filters.Unbind(context);
}

} // namespace duckbpf
