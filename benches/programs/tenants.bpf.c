/* Token buckets: fills each tenant's bucket by the time that passed, and says who may run. */
#include "common.h"

struct bucket {
	__u64 tokens;
	__u64 last;
	__u64 rate;
	__u64 burst;
	__u64 refused;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct bucket);
} tenants SEC(".maps");

struct event {
	__u64 tenant;
	__u64 tokens;
	__u32 why;
	__u32 pool;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event);
} events SEC(".maps");

static __always_inline void tell(__u64 tenant, struct bucket *bucket, __u32 why, __u32 pool)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->tenant = tenant;
	event->tokens = bucket->tokens;
	event->why = why;
	event->pool = pool;
	if (why == 7 && bucket->refused < 10)
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
}

PROGRAM(tenants_of_all)
{
	__u64 now = bpf_ktime_get_ns(), allowed = 0, me = ctx->origin.connection_id;
	for (__u64 i = 0; i < 16; i++) {
		__u64 tenant = me + i;
		struct bucket *bucket = bpf_map_lookup_elem(&tenants, &tenant);
		if (!bucket) {
			struct bucket fresh = {.tokens = 100, .last = now, .rate = 10, .burst = 100};
			if (bpf_map_update_elem(&tenants, &tenant, &fresh, BPF_NOEXIST))
				break;
			continue;
		}
		__u64 passed = (now - bucket->last) / 1000000;
		__u64 tokens = bucket->tokens + passed * bucket->rate;
		if (tokens > bucket->burst)
			tokens = bucket->burst;
		bucket->last = now;
		if (tokens < ctx->n_tasks) {
			bucket->refused++;
			tell(tenant, bucket, i == 0 ? 1 : 7, ctx->pool);
		} else {
			tokens -= ctx->n_tasks;
			allowed |= 1 << i;
		}
		bucket->tokens = tokens;
	}
	results[12] = allowed;
	return allowed & 1;
}
