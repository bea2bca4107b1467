/* Equal shares of the CPU for each tag that has work. */
#include "duckbpf.h"

LICENSE("MIT");

/* A tenant is a tag. There are as many as classes; a tag that comes later shares with an earlier one. */
#define TENANTS DUCKBPF_CLASS_COUNT
#define MILLISECOND 1000000ULL

/* How far behind a tenant must be to run one thread more than there are cores, in nanoseconds of thread CPU. */
const volatile __u64 quantum_ns = 20 * MILLISECOND;
/* Chunks of a slice. */
const volatile __u32 chunks = 50;
/* A tenant is there for so long after it was seen last: it is planned, its client reads a result and sends the next query. */
const volatile __u64 presence_ms = 50;
/* 1: only count what each tenant uses; everything runs as in stock. */
const volatile __u32 only_count = 0;
/* What a tenant may catch up at most, in thread CPU. */
const volatile __u64 catch_up_ms = 1000;

/* The class of a tag. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} tenants SEC(".maps");
static __u32 next_tenant;

struct shares {
	__u64 floor_ns;          /* the least given_ns of those that were there, at any time; it never goes back */
	__u64 used_ns[TENANTS];  /* thread CPU of its queries' tasks */
	__u64 given_ns[TENANTS]; /* the same, brought up to the others' when one comes back from idling */
	__u64 until_ns[TENANTS]; /* until when it is there */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shares);
} shares SEC(".maps");

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

static __always_inline struct shares *all_shares(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shares, &zero);
}

static __always_inline __u32 tenant_of(__u64 tag, struct shares *all)
{
	__u32 *known = bpf_map_lookup_elem(&tenants, &tag);
	__u32 tenant;

	if (known)
		return *known % TENANTS;
	tenant = __sync_fetch_and_add(&next_tenant, 1) % TENANTS;
	bpf_map_update_elem(&tenants, &tag, &tenant, BPF_NOEXIST);
	if (all->given_ns[tenant % TENANTS] < all->floor_ns)
		all->given_ns[tenant % TENANTS] = all->floor_ns;
	return tenant;
}

static __always_inline int is_there(struct shares *all, __u32 tenant, __u64 now)
{
	return all->until_ns[tenant % TENANTS] > now;
}

/* Counts what the query used since it was asked about last. */
static __always_inline void count(struct shares *all, __u32 tenant, const struct duckbpf_origin *origin, __u64 cpu_ns)
{
	__u64 key = origin->database_id << 32 | origin->connection_id;
	struct counted now = {origin->query_id, cpu_ns};
	struct counted *before = bpf_map_lookup_elem(&counted, &key);
	__u64 used = cpu_ns;

	if (before && before->query_id == now.query_id && before->cpu_ns <= cpu_ns)
		used -= before->cpu_ns;
	if (before)
		*before = now;
	else
		bpf_map_update_elem(&counted, &key, &now, BPF_ANY);
	__sync_fetch_and_add(&all->used_ns[tenant % TENANTS], used);
	__sync_fetch_and_add(&all->given_ns[tenant % TENANTS], used);
}

SEC("duckdb/query_begin")
__u64 arrive(struct duckbpf_query_begin_ctx *ctx)
{
	struct shares *all = all_shares();
	__u64 now = bpf_ktime_get_ns(), least, saved = 0, *mine;
	__u32 tenant;

	if (!all)
		return 0;
	tenant = tenant_of(ctx->origin.tag, all);
	/* Who idled has saved nothing, and who fell far behind catches up a part. */
	if (is_there(all, tenant, now))
		saved = catch_up_ms * MILLISECOND;
	mine = &all->given_ns[tenant % TENANTS];
	least = all->floor_ns;
	if (*mine + saved < least)
		*mine = least - saved;
	all->until_ns[tenant % TENANTS] = now + presence_ms * MILLISECOND;
	return DUCKBPF_ADMIT(tenant, 0);
}

SEC("duckdb/run_task")
__u64 fair_tenants(struct duckbpf_run_task_ctx *ctx)
{
	struct shares *all = all_shares();
	__u64 keep = ctx->site == DUCKBPF_RUN_CLIENT ? DUCKBPF_RUN_KEEP : 0;
	__u64 least = ~0ULL, least_running = ~0ULL, least_waiting = ~0ULL, now = bpf_ktime_get_ns(), mine;
	__u32 cores = duckbpf_threads();
	__u32 others = 0, own = 0, tenant;

	if (!all)
		return 0;
	tenant = tenant_of(ctx->origin.tag, all);
	count(all, tenant, &ctx->origin, ctx->cpu_ns);
	if (only_count)
		return 0;
	mine = all->given_ns[tenant % TENANTS];
	all->until_ns[tenant % TENANTS] = now + presence_ms * MILLISECOND;
#pragma clang loop unroll(full)
	for (__u32 other = 0; other < TENANTS; other++) {
		__u64 its = all->given_ns[other];

		if (other == tenant) {
			own = ctx->running[other] - (ctx->kept && ctx->klass == tenant ? 1 : 0);
			continue;
		}
		others += ctx->running[other];
		if (ctx->running[other] && its < least_running)
			least_running = its;
		if (ctx->waiting[other] && its < least_waiting)
			least_waiting = its;
		if (all->until_ns[other] > now && its < least)
			least = its;
	}
	if (least_running < least)
		least = least_running;
	if (least_waiting < least)
		least = least_waiting;
	if ((mine < least ? mine : least) > all->floor_ns)
		all->floor_ns = mine < least ? mine : least;
	/* Alone: as stock. */
	if (least == ~0ULL)
		return DUCKBPF_RUN(tenant, 0) | DUCKBPF_RUN_CHUNKS(chunks);
	/* The first thread of who is not ahead runs at once, beside slices of others that do not end yet. */
	if (!own && mine <= least_running)
		return DUCKBPF_RUN(tenant, 0) | DUCKBPF_RUN_CHUNKS(chunks) | keep;
	/* The others run within the cores, and who fell behind one more; a core that nobody wants who is behind is anybody's. */
	if ((own + others < cores && mine <= least_waiting) || (own + others <= cores && mine + quantum_ns < least))
		return DUCKBPF_RUN(tenant, 0) | DUCKBPF_RUN_CHUNKS(chunks) | keep;
	return DUCKBPF_HOLD(tenant) | DUCKBPF_RUN_CHUNKS(chunks) | DUCKBPF_RUN_WAIT_US(20000);
}

SEC("duckdb/query_end")
__u64 leave(struct duckbpf_query_end_ctx *ctx)
{
	struct shares *all = all_shares();
	__u32 tenant;

	if (!all)
		return 0;
	tenant = tenant_of(ctx->origin.tag, all);
	/* It came as another's: it is what changed the tag. */
	if (ctx->klass != tenant)
		return 0;
	count(all, tenant, &ctx->origin, ctx->cpu_ns);
	all->until_ns[tenant % TENANTS] = bpf_ktime_get_ns() + presence_ms * MILLISECOND;
	return 0;
}
