/* Equal shares of the CPU for each tag that has work. */
#include "duckbpf.h"

LICENSE("MIT");

/* A tenant is a tag. There are as many as classes; a tag that comes later shares with an earlier one. */
#define TENANTS DUCKBPF_CLASS_COUNT

/* How far a tenant may be ahead of one that waits, in nanoseconds of thread CPU. */
const volatile __u64 quantum_ns = 20000000;
const volatile __u32 chunks = 10;

/* The class of a tag. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} tenants SEC(".maps");
static __u32 next_tenant;

/* Thread CPU that a tenant was given, brought up to the others' when it comes back from idling. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TENANTS);
	__type(key, __u32);
	__type(value, __u64);
} given SEC(".maps");

/* What was counted of a connection's query so far. */
struct counted {
	__u64 query_id;
	__u64 cpu_ns;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct counted);
} counted SEC(".maps");

/* What the query used since it was asked about last. */
static __always_inline __u64 used_since(struct duckbpf_run_task_ctx *ctx)
{
	__u64 key = ctx->origin.database_id << 32 | ctx->origin.connection_id;
	struct counted now = {ctx->origin.query_id, ctx->cpu_ns};
	struct counted *before = bpf_map_lookup_elem(&counted, &key);
	__u64 used = now.cpu_ns;

	if (before && before->query_id == now.query_id && before->cpu_ns <= now.cpu_ns)
		used -= before->cpu_ns;
	if (before)
		*before = now;
	else
		bpf_map_update_elem(&counted, &key, &now, BPF_ANY);
	return used;
}

static __always_inline __u32 tenant_of(__u64 tag)
{
	__u32 *known = bpf_map_lookup_elem(&tenants, &tag);
	__u32 tenant;

	if (known)
		return *known % TENANTS;
	tenant = __sync_fetch_and_add(&next_tenant, 1) % TENANTS;
	bpf_map_update_elem(&tenants, &tag, &tenant, BPF_NOEXIST);
	return tenant;
}

SEC("duckdb/run_task")
__u64 fair_tenants(struct duckbpf_run_task_ctx *ctx)
{
	__u32 tenant = tenant_of(ctx->origin.tag);
	__u64 keep = ctx->site == DUCKBPF_RUN_CLIENT ? DUCKBPF_RUN_KEEP : 0;
	__u64 *mine = bpf_map_lookup_elem(&given, &tenant);
	__u64 least_active = ~0ULL, least_waiting = ~0ULL;
	__u32 threads = duckbpf_threads();
	__u32 others = 0, own = 0, slots;

	if (!mine)
		return 0;
	__sync_fetch_and_add(mine, used_since(ctx));

#pragma clang loop unroll(full)
	for (__u32 other = 0; other < TENANTS; other++) {
		__u32 key = other;
		__u64 *its = bpf_map_lookup_elem(&given, &key);

		if (other == tenant)
			own = ctx->running[other] + ctx->waiting[other];
		if (!its || other == tenant || !(ctx->running[other] + ctx->waiting[other]))
			continue;
		others += ctx->running[other];
		if (*its < least_active)
			least_active = *its;
		if (ctx->waiting[other] && *its < least_waiting)
			least_waiting = *its;
	}
	/* Alone: as stock. */
	if (least_active == ~0ULL)
		return DUCKBPF_RUN(tenant, 0) | DUCKBPF_RUN_CHUNKS(chunks * 5);
	/* Who idled has saved nothing. */
	if (!own && !ctx->waited_ns && *mine < least_active)
		*mine = least_active;
	if (least_waiting != ~0ULL && *mine > least_waiting + (ctx->kept ? quantum_ns : 0))
		return DUCKBPF_HOLD(tenant) | DUCKBPF_RUN_CHUNKS(chunks) | DUCKBPF_RUN_WAIT_US(20000);
	/* Who is behind gets a thread more than there are cores: what it lost to slices that cannot be split. */
	slots = threads + (*mine + 2 * quantum_ns < least_active);
	if (others >= slots)
		return DUCKBPF_HOLD(tenant) | DUCKBPF_RUN_CHUNKS(chunks) | DUCKBPF_RUN_WAIT_US(20000);
	return DUCKBPF_RUN(tenant, slots - others) | DUCKBPF_RUN_CHUNKS(chunks) | DUCKBPF_RUN_WAIT_US(20000) | keep;
}
