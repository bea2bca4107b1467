//! What programs cost a query that DuckDB profiles (EXPLAIN ANALYZE, enable_profiling): each of their calls for it is timed, and the
//! profile shows it: as text in a box above the plan, else among the metrics, as `hooks`.

#include "profile.hpp"

#include "call.hpp"
#include "duckbpf/profile.hpp"
#include "identity.hpp"

#include "duckdb/main/client_context.hpp"
#include "duckdb/main/client_context_state.hpp"
#include "duckdb/main/query_profiler.hpp"

#include <cstdio>
#include <ostream>

namespace duckbpf {

namespace {

constexpr const char *HOOKS[] = {
    "hash",           "schedule_task", "execute_forever", "load",      "update_used_memory", "allocate_new_block", "unpin",
    "evict",          "queue_insert",  "checkpoint",      "prefetch",  "file_read",          "log",                "compression",
    "scan_begin",     "run_task",      "query_begin",     "query_end", "pipeline_threads",   "operator_memory",
};
static_assert(sizeof(HOOKS) / sizeof(*HOOKS) == DUCKBPF_HOOK_COUNT, "a name for each hook");

//! Queries that are profiled at a time; further ones do without
Profile profiles[32];

Profile *TakeProfile() {
	for (auto &profile : profiles) {
		bool expected = false;
		if (profile.taken.compare_exchange_strong(expected, true, std::memory_order_acquire)) {
			for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
				profile.calls[hook].store(0, std::memory_order_relaxed);
				profile.ns[hook].store(0, std::memory_order_relaxed);
			}
			sampling.fetch_add(TIMES_A_QUERY, std::memory_order_relaxed);
			return &profile;
		}
	}
	return nullptr;
}

//! What a profile shows
struct Times {
	uint64_t calls[DUCKBPF_HOOK_COUNT] {};
	uint64_t ns[DUCKBPF_HOOK_COUNT] {};
	uint64_t all_calls = 0;
	uint64_t all_ns = 0;

	Times() = default;
	explicit Times(const Profile &profile) {
		for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
			all_calls += calls[hook] = profile.calls[hook].load(std::memory_order_relaxed);
			all_ns += ns[hook] = profile.ns[hook].load(std::memory_order_relaxed);
		}
	}
};

double Seconds(uint64_t ns) {
	return static_cast<double>(ns) / 1e9;
}

void WriteRow(std::ostream &out, const char *name, uint64_t calls, uint64_t ns) {
	char row[96];
	snprintf(row, sizeof(row), "│ %-18s %10llu calls %10.6fs │\n", name, static_cast<unsigned long long>(calls), Seconds(ns));
	out << row;
}

//! In the style of the profiler's own boxes
void WriteBox(const Times &times, std::ostream &out) {
	out << "╭─ Hooks ─────────────────────────────────────────╮\n";
	WriteRow(out, "all", times.all_calls, times.all_ns);
	for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
		if (times.calls[hook] > 0) {
			WriteRow(out, HOOKS[hook], times.calls[hook], times.ns[hook]);
		}
	}
	out << "╰─────────────────────────────────────────────────╯\n";
}

void SetMetrics(duckdb::QueryProfiler &profiler, const Times &times) {
	const auto set = [&](const duckdb::string &name, const char *of, uint64_t calls, uint64_t ns) {
		profiler.SetMetric(name + of + "calls", duckdb::Value::UBIGINT(calls));
		profiler.SetMetric(name + of + "time", duckdb::Value::DOUBLE(Seconds(ns)));
	};
	set("hooks.", "total_", times.all_calls, times.all_ns);
	for (int hook = 0; hook < DUCKBPF_HOOK_COUNT; hook++) {
		if (times.calls[hook] > 0) {
			set(duckdb::string("hooks.") + HOOKS[hook], ".", times.calls[hook], times.ns[hook]);
		}
	}
}

//! Of a connection: what the profile of its query, or of its last one, shows. Used by the connection's own thread, or by the one task
//! that renders the profile.
class ProfileState : public duckdb::ClientContextState {
public:
	static constexpr const char *NAME = "duckbpf_profile";

	~ProfileState() override {
		GiveBack();
	}
	Profile *Begin() {
		GiveBack();
		is_shown = false;
		profile = TakeProfile();
		return profile;
	}
	void Tell(duckdb::ClientContext &context) {
		if (!profile) {
			return;
		}
		times = Times(*profile);
		is_shown = true;
		auto &profiler = duckdb::QueryProfiler::Get(context);
		// Under its lock, as its own; without a plan it has no metrics to add to.
		profiler.GetRootUnderLock([&](duckdb::optional_ptr<duckdb::ProfilingNode> root) {
			if (root) {
				SetMetrics(profiler, times);
			}
		});
	}
	void GiveBack() {
		if (profile) {
			sampling.fetch_sub(TIMES_A_QUERY, std::memory_order_relaxed);
			profile->taken.store(false, std::memory_order_release);
			profile = nullptr;
		}
	}
	void QueryBegin(duckdb::ClientContext &) override {
		is_shown = false;
	}
	void WriteProfilingInformation(std::ostream &out) override {
		if (is_shown) {
			WriteBox(times, out);
		}
	}

private:
	//! Null: no query runs that is profiled
	Profile *profile = nullptr;
	bool is_shown = false;
	Times times;
};

} // namespace

void BeginProfile(duckdb::ClientContext &context) {
	if (!IsPublished() || !duckdb::QueryProfiler::Get(context).IsEnabled()) {
		return;
	}
	auto query = FindQuery(context);
	if (!query) {
		return;
	}
	try {
		auto state = context.registered_state->GetOrCreate<ProfileState>(ProfileState::NAME);
		__atomic_store_n(&query->profile, state->Begin(), __ATOMIC_RELAXED);
	} catch (...) { // NOLINT: a query does not fail because its profile cannot be made
	}
}

void TellProfile(duckdb::ClientContext &context) {
	if (sampling.load(std::memory_order_relaxed) < TIMES_A_QUERY) {
		return;
	}
	try {
		if (auto state = context.registered_state->Get<ProfileState>(ProfileState::NAME)) {
			state->Tell(context);
		}
	} catch (...) { // NOLINT: a query does not fail because its profile cannot be told
	}
}

void EndProfile(duckdb::ClientContext &context) {
	if (auto state = context.registered_state->Get<ProfileState>(ProfileState::NAME)) {
		state->GiveBack();
	}
}

void Sample::Begin(uint64_t wanted) {
	profile = wanted >= TIMES_A_QUERY ? OwnProfile() : nullptr;
	if (is_sampled || profile) {
		begin = NowNs();
	}
}

void Sample::End() {
	const auto took = NowNs() - begin;
	if (is_sampled) {
		thread.counters[hook].timed_ns.Add(took);
		thread.counters[hook].timed_calls.Add(1);
	}
	if (profile) {
		profile->calls[hook].fetch_add(1, std::memory_order_relaxed);
		profile->ns[hook].fetch_add(took, std::memory_order_relaxed);
	}
}

} // namespace duckbpf
