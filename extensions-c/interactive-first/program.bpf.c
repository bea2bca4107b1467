/* Short queries run before long ones, by levels. A query's level is how much CPU it will need, as queries of its fingerprint needed
 * before, or, while nobody knows, a part of what it has used; or its tag says it. */
#include "duckbpf.h"

LICENSE("MIT");

/* Queries of the last level are long. The upper end of each other level is half of the next one's. */
#define LONG (DUCKBPF_CLASS_COUNT - 1)
#define MILLISECOND 1000000ULL

/* Thread CPU from which a query is long; 0: learned, see long_ns(). */
const volatile __u64 heavy_ms = 0;
/* Under load a query needs more CPU than alone: so many times what was remembered before it counts with what it uses. */
const volatile __u64 slack = 3;
/* Of what a query that nobody knows used, the part that counts is one in so many: it may be a short one under load, and long ones that
 * nobody knows lose little by sharing the machine for a while longer. */
const volatile __u64 doubt = 4;
/* 0: forget what queries cost before. */
const volatile __u32 remember = 1;
/* Chunks of a long query's slice while others are there, of a shorter one's, and of one that is alone. */
const volatile __u32 heavy_chunks = 5;
const volatile __u32 light_chunks = 20;
const volatile __u32 alone_chunks = 50;
/* A query of which nothing ran for so long, because older ones of its level did, may run a slice. Below the host's bound. */
const volatile __u64 patience_ms = 700;

/* What a query of a fingerprint needs, in nanoseconds of thread CPU: the least that was seen, or what it has become since. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} costs SEC(".maps");

/* By tag: 1 and the level of its queries, 0: learned. Written when a tag is seen first, and by whoever wants to. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} told SEC(".maps");

/* Microseconds of CPU: of the query to which a second of the machine belongs, on average; 0: nothing has ended yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} mean_cost SEC(".maps");

/* A short query that is there, though none of its threads may run just now: it is planned, or goes from one pipeline to the next. */
struct present {
	__u64 until_ns;
	__u64 connection;
	__u64 level;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct present);
} presence SEC(".maps");

#define PRESENT_NS (20 * MILLISECOND)
/* What is read of mean_cost before anything has ended, and how much CPU makes it forget half of what was before. */
#define FIRST_MEAN_US 4000000ULL
#define MEMORY_US 20000000ULL
/* Longer queries count as this long. */
#define MOST_US 1000000000ULL
#define LEAST_LONG_NS (20 * MILLISECOND)

/* A quarter of the average: most of the machine's time goes to queries that are longer. */
static __always_inline __u64 long_ns(void)
{
	__u32 zero = 0;
	__u64 *mean = bpf_map_lookup_elem(&mean_cost, &zero);
	__u64 learned = (mean && *mean ? *mean : FIRST_MEAN_US) * 1000 / 4;

	if (heavy_ms)
		return heavy_ms * MILLISECOND;
	return learned > LEAST_LONG_NS ? learned : LEAST_LONG_NS;
}

static __always_inline __u32 level_of(__u64 cost)
{
	__u64 end = long_ns();
	__u32 level = LONG;

#pragma clang loop unroll(full)
	for (__u32 step = 0; step < LONG; step++) {
		level -= cost < end;
		end /= 2;
	}
	return level;
}

/* 'interactive' and 'batch' say it themselves. */
static __always_inline __u32 told_level(__u32 tag)
{
	__u32 *known, learned = 0, first = 1, last = LONG + 1;
	__u64 text[2] = {0, 0};

	if (!tag)
		return 0;
	known = bpf_map_lookup_elem(&told, &tag);
	if (known)
		return *known;
	duckbpf_tag_text(tag, (char *)text, sizeof(text));
	if (text[0] == 0x7463617265746e69ULL && text[1] == 0x657669ULL)
		bpf_map_update_elem(&told, &tag, &first, BPF_NOEXIST);
	else if (text[0] == 0x6863746162ULL && text[1] == 0)
		bpf_map_update_elem(&told, &tag, &last, BPF_NOEXIST);
	else
		bpf_map_update_elem(&told, &tag, &learned, BPF_NOEXIST);
	known = bpf_map_lookup_elem(&told, &tag);
	return known ? *known : 0;
}

/* The level of a query, by its tag, or what queries of its fingerprint needed, or what it used. */
static __always_inline __u32 expected_level(__u32 tag, __u64 fingerprint, __u64 used)
{
	__u32 level = told_level(tag);
	__u64 key = fingerprint, *known;

	if (level)
		return level - 1 < LONG ? level - 1 : LONG;
	known = remember && key ? bpf_map_lookup_elem(&costs, &key) : 0;
	if (known) {
		used /= slack ? slack : 1;
		return level_of(*known > used ? *known : used);
	}
	return level_of(used / (doubt ? doubt : 1));
}

static __always_inline struct present *present(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&presence, &zero);
}

/* A shorter one that is marked stays marked. */
static __always_inline void mark(struct present *other, __u64 connection, __u64 level, __u64 now)
{
	if (level == LONG || (other->until_ns > now && other->connection != connection && other->level < level))
		return;
	other->connection = connection;
	other->level = level;
	other->until_ns = now + PRESENT_NS;
}

/* Slots and queries of lower levels, the query's own left out. */
static __always_inline __u32 ahead_of(struct duckbpf_run_task_ctx *ctx, __u32 level)
{
	__u32 own = ctx->threads + ctx->kept, ahead = 0;

#pragma clang loop unroll(full)
	for (__u32 lower = 0; lower < LONG; lower++) {
		__u32 slots = ctx->running[lower] - (lower == ctx->klass ? own : 0);

		ahead += lower < level ? slots + ctx->waiting[lower] : 0;
	}
	return ahead;
}

SEC("duckdb/query_begin")
__u64 arrive(struct duckbpf_query_begin_ctx *ctx)
{
	__u32 level = expected_level(ctx->origin.tag, ctx->fingerprint, 0);
	struct present *other = present();

	/* Before it is planned: long ones have come to the end of their slices when it runs. */
	if (other)
		mark(other, ctx->origin.connection_id, level, bpf_ktime_get_ns());
	return DUCKBPF_ADMIT(level, 0);
}

SEC("duckdb/run_task")
__u64 interactive_first(struct duckbpf_run_task_ctx *ctx)
{
	__u32 level = expected_level(ctx->origin.tag, ctx->fingerprint, ctx->cpu_ns);
	__u64 connection = ctx->origin.connection_id, now = bpf_ktime_get_ns();
	__u32 chunks = duckbpf_active_queries() < 2 ? alone_chunks : level == LONG ? heavy_chunks : light_chunks;
	__u64 slice = DUCKBPF_RUN_CHUNKS(chunks) | (ctx->site == DUCKBPF_RUN_CLIENT ? DUCKBPF_RUN_KEEP : 0);
	__u64 slots = duckbpf_threads();
	struct present *other = present();

	if (!other)
		return 0;
	mark(other, connection, level, now);
	/* Slots stay their queries' own: the others must not overtake them meanwhile. */
	if (ahead_of(ctx, level))
		return DUCKBPF_HOLD(level) | DUCKBPF_RUN_WAIT_US(20000) | slice;
	if (other->until_ns > now && other->connection != connection && other->level < level)
		return DUCKBPF_HOLD(level) | DUCKBPF_RUN_WAIT_US(2000) | slice;
	if (level == LONG && !ctx->kept) {
		/* The oldest first, and clients before workers: a worker that is free is there for whoever comes. */
		if (ctx->older_waiting && ctx->waited_ns > patience_ms * MILLISECOND)
			return DUCKBPF_RUN(level, 0) | DUCKBPF_RUN_CHUNKS(chunks);
		if (ctx->older_waiting || (ctx->site == DUCKBPF_RUN_WORKER && ctx->waiting[LONG]))
			return DUCKBPF_HOLD(level) | DUCKBPF_RUN_WAIT_US(20000) | DUCKBPF_RUN_CHUNKS(chunks);
	}
	if (!slots)
		slots = 1;
	return DUCKBPF_RUN(level, slots) | DUCKBPF_RUN_WAIT_US(20000) | slice;
}

static __always_inline void learn_cost(__u64 fingerprint, __u64 used)
{
	__u64 key = fingerprint;
	__u64 *known = bpf_map_lookup_elem(&costs, &key);

	if (!known)
		bpf_map_update_elem(&costs, &key, &used, BPF_ANY);
	else if (used < *known)
		*known = used;
	else
		*known += (used - *known) / 16;
}

/* A moving average, in which each query has the weight of its CPU. */
static __always_inline void learn_mean(__u64 used_us)
{
	__u32 zero = 0;
	__u64 used = used_us < MOST_US ? used_us : MOST_US;
	__u64 *stored = bpf_map_lookup_elem(&mean_cost, &zero);
	__u64 mean;

	if (!stored)
		return;
	mean = *stored ? *stored : FIRST_MEAN_US;
	if (used > mean)
		mean += (used - mean) * used / (MEMORY_US + used);
	else
		mean -= (mean - used) * used / (MEMORY_US + used);
	*stored = mean;
}

SEC("duckdb/query_end")
__u64 leave(struct duckbpf_query_end_ctx *ctx)
{
	struct present *other = present();

	if (other && other->connection == ctx->origin.connection_id)
		other->until_ns = 0;
	if (ctx->failed || !ctx->fingerprint)
		return 0;
	learn_cost(ctx->fingerprint, ctx->cpu_ns);
	learn_mean(ctx->cpu_ns / 1000);
	return 0;
}
