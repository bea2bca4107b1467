/* Functions, global and static, callbacks, stacks and spills. */
#include "kernel.h"

struct pair {
	__u64 a;
	__u64 b;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct pair);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, struct pair);
} slots SEC(".maps");

__u64 values[64];
__u64 out;

static __noinline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	return x ^ (x >> 33);
}

SEC("syscall")
int ok_static_function(struct input *ctx)
{
	return mix(ctx->a) + mix(ctx->b);
}

static __noinline int clamp(int x)
{
	return x < 0 ? 0 : x > 63 ? 63 : x;
}

SEC("syscall")
int ok_bounds_come_back_from_a_static_function(struct input *ctx)
{
	return values[clamp(ctx->n)];
}

__noinline int global_sum(int a, int b, int c)
{
	barrier_var(a);
	return a + b * c;
}

SEC("syscall")
int ok_global_function(struct input *ctx)
{
	return global_sum(ctx->n, ctx->m, 3) + global_sum(1, 2, 3);
}

__noinline int global_clamp(int x)
{
	barrier_var(x);
	return x < 0 ? 0 : x > 63 ? 63 : x;
}

/* The kernel judges a global function by itself and forgets what it returns. */
SEC("syscall")
int ours_bounds_come_back_from_a_global_function(struct input *ctx)
{
	return values[global_clamp(ctx->n)];
}

SEC("syscall")
int ok_result_of_a_global_function_is_checked(struct input *ctx)
{
	int i = global_clamp(ctx->n);
	if (i < 0 || i >= 64)
		return 0;
	return values[i];
}

__noinline int global_pointer(struct pair *p, __u64 x)
{
	if (!p)
		return -1;
	p->a += x;
	p->b ^= x;
	return 0;
}

SEC("syscall")
int ok_global_function_with_a_pointer_to_the_stack(struct input *ctx)
{
	struct pair p = {ctx->a, ctx->b};
	global_pointer(&p, ctx->c);
	return p.a + p.b;
}

SEC("syscall")
int ok_global_function_with_a_pointer_to_a_map_value(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);
	if (!p)
		return 0;
	return global_pointer(p, 5);
}

SEC("syscall")
int ok_global_function_with_null(struct input *ctx)
{
	return global_pointer(NULL, 5);
}

__noinline int global_context(struct input *ctx)
{
	return ctx->n + ctx->m;
}

static __noinline int update(struct pair *p, __u64 by)
{
	p->a += by;
	p->b -= by;
	return p->a > p->b;
}

SEC("syscall")
int ok_static_function_with_a_pointer_to_the_stack(struct input *ctx)
{
	struct pair p = {ctx->a, ctx->b};
	int x = update(&p, 3);
	return x + update(&p, 4) + p.a;
}

SEC("syscall")
int ok_static_function_with_a_pointer_to_a_map_value(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);
	return p ? update(p, 3) : 0;
}

SEC("syscall")
int bad_maybe_null__into_a_static_function(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);
	return update(p, 3);
}

static __noinline struct pair *find(__u64 key)
{
	return bpf_map_lookup_elem(&pairs, &key);
}

SEC("syscall")
int ok_static_function_returns_a_map_value(struct input *ctx)
{
	struct pair *p = find(ctx->a);
	if (!p)
		return 0;
	p->a = 1;
	return 0;
}

static __noinline int find_into(__u64 key, struct pair **to)
{
	*to = bpf_map_lookup_elem(&pairs, &key);
	return *to ? 0 : -1;
}

SEC("syscall")
int ok_static_function_stores_a_map_value_in_the_callers_stack(struct input *ctx)
{
	struct pair *p = NULL;
	find_into(ctx->a, &p);
	if (!p)
		return 0;
	p->b = 7;
	return 0;
}

static __noinline int depth_3(int x, __u64 *p)
{
	return x + *p;
}
static __noinline int depth_2(int x, __u64 *p)
{
	__u64 more = *p + 1;
	return depth_3(x + 1, &more) + depth_3(x, p);
}
static __noinline int depth_1(int x, __u64 *p)
{
	__u64 more = *p + 1;
	return depth_2(x + 1, &more) + depth_2(x, p);
}

SEC("syscall")
int ok_chain_of_functions(struct input *ctx)
{
	__u64 x = ctx->a;
	return depth_1(ctx->n, &x);
}

static __noinline __u64 sum_of(__u64 *a, int n)
{
	__u64 sum = 0;
	for (int i = 0; i < 8 && i < n; i++)
		sum += a[i];
	return sum;
}

SEC("syscall")
int ok_array_on_the_stack_to_a_function(struct input *ctx)
{
	__u64 a[8] = {1, ctx->a, 3, ctx->b, 5, 6, 7, ctx->c};
	return sum_of(a, 8) + sum_of(a, ctx->n & 7);
}

static __noinline int frame_400(int x)
{
	volatile __u8 a[400];
	a[x & 255] = 1;
	a[0] = 2;
	return a[0];
}
static __noinline int frame_300(int x)
{
	volatile __u8 a[300];
	a[x & 255] = x;
	a[0] = 1;
	return frame_400(x) + a[0];
}

SEC("syscall")
int bad_combined_stack__two_frames_of_700(struct input *ctx)
{
	return frame_300(ctx->n);
}

SEC("syscall")
int ok_stack_of_400(struct input *ctx)
{
	return frame_400(ctx->n);
}

static __noinline int down_8(int x) { barrier_var(x); return x + 1; }
static __noinline int down_7(int x) { barrier_var(x); return down_8(x) + 1; }
static __noinline int down_6(int x) { barrier_var(x); return down_7(x) + 1; }
static __noinline int down_5(int x) { barrier_var(x); return down_6(x) + 1; }
static __noinline int down_4(int x) { barrier_var(x); return down_5(x) + 1; }
static __noinline int down_3(int x) { barrier_var(x); return down_4(x) + 1; }
static __noinline int down_2(int x) { barrier_var(x); return down_3(x) + 1; }
static __noinline int down_1(int x) { barrier_var(x); return down_2(x) + 1; }

SEC("syscall")
int ok_eight_functions_deep(struct input *ctx)
{
	return down_2(ctx->n);
}

SEC("syscall")
int bad_call_depth__nine_functions_deep(struct input *ctx)
{
	return down_1(ctx->n);
}

static __noinline __u64 *address_of_a_local(int x)
{
	__u64 local = x;
	__u64 *p = &local;
	barrier_var(p);
	return p;
}

SEC("syscall")
int bad_stack_escape__returned(struct input *ctx)
{
	__u64 *p = address_of_a_local(ctx->n);
	return p != NULL;
}

SEC("syscall")
int bad_pointer_leak__result(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	barrier_var(p);
	return (long)p;
}

SEC("syscall")
int bad_pointer_leak__context_as_result(struct input *ctx)
{
	__u64 address;
	asm volatile("%0 = %1" : "=r"(address) : "r"(ctx));
	return address;
}

SEC("syscall")
int bad_pointer_leak__into_a_variable(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);
	if (!p)
		return 0;
	out = (__u64)p;
	return 0;
}

SEC("syscall")
int bad_stack_pointer_part__into_a_map_as_value(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair value = {(__u64)ctx, 1};
	bpf_map_update_elem(&pairs, &key, &value, BPF_ANY);
	return 0;
}

SEC("syscall")
int ok_many_live_values_are_spilled(struct input *ctx)
{
	__u64 a = ctx->a, b = ctx->b, c = ctx->c, d = ctx->d;
	__u64 e = ctx->n, f = ctx->m, g = ctx->bytes[0], h = ctx->bytes[1];
	__u64 t = bpf_ktime_get_ns();
	__u64 r = bpf_get_prandom_u32();
	return (a ^ b) + (c ^ d) * (e ^ f) - (g ^ h) + mix(a) + mix(b) + mix(c) + mix(d) + (t ^ r) + a * b * c * d * e * f * g * h;
}

SEC("syscall")
int ok_spilled_pointer_is_checked_later(struct input *ctx)
{
	__u64 key = ctx->a;
	struct pair *volatile spilled = bpf_map_lookup_elem(&pairs, &key);
	struct pair *p = spilled;
	if (!p)
		return 0;
	p->a++;
	return 0;
}

/* The kernel follows spills of 4 bytes only where they are aligned to 8. */
SEC("syscall")
int ours_spilled_bound(struct input *ctx)
{
	__u32 i = ctx->n;
	if (i >= 64)
		return 0;
	volatile __u32 kept = i;
	bpf_ktime_get_ns();
	return values[kept];
}

SEC("syscall")
int ok_spilled_bound_64(struct input *ctx)
{
	__u64 i = ctx->a;
	volatile __u64 kept = i;
	if (i >= 64)
		return 0;
	bpf_ktime_get_ns();
	return values[kept];
}

/* ---- callbacks ---- */

static long add_one(__u64 index, void *context)
{
	__u64 *sum = context;
	*sum += index;
	return 0;
}

SEC("syscall")
int ok_loop_with_a_context_on_the_stack(struct input *ctx)
{
	__u64 sum = 0;
	bpf_loop(100, add_one, &sum, 0);
	return sum;
}

SEC("syscall")
int ok_loop_of_unknown_rounds(struct input *ctx)
{
	__u64 sum = 0;
	bpf_loop(ctx->n, add_one, &sum, 0);
	return sum;
}

SEC("syscall")
int ok_loop_of_a_million_rounds(struct input *ctx)
{
	__u64 sum = 0;
	bpf_loop(1 << 20, add_one, &sum, 0);
	return sum;
}

static long fill(__u64 index, void *context)
{
	if (index >= 64)
		return 1;
	values[index] = index;
	return 0;
}

SEC("syscall")
int ok_loop_with_break(struct input *ctx)
{
	return bpf_loop(1000, fill, NULL, 0);
}

static long fill_by_index(__u64 index, void *context)
{
	values[index] = index;
	return 0;
}

/* The kernel knows nothing of the index but that it is a number. */
SEC("syscall")
int ours_index_is_bounded_by_the_rounds(struct input *ctx)
{
	return bpf_loop(64, fill_by_index, NULL, 0);
}

SEC("syscall")
int bad_out_of_bounds__index_beyond(struct input *ctx)
{
	return bpf_loop(100, fill_by_index, NULL, 0);
}

struct search {
	__u64 wanted;
	__u32 at;
	__u32 found;
};

static long look(__u64 index, void *context)
{
	struct search *s = context;
	__u32 at = s->at;
	if (at >= 64)
		return 1;
	if (values[at] == s->wanted) {
		s->found = 1;
		return 1;
	}
	s->at = at + 1;
	return 0;
}

SEC("syscall")
int ok_loop_with_a_counter_of_its_own(struct input *ctx)
{
	struct search s = {.wanted = ctx->a};
	bpf_loop(64, look, &s, 0);
	return s.found ? s.at : -1;
}

struct nest {
	__u64 sum;
	__u32 outer;
};

static long inner(__u64 index, void *context)
{
	struct nest *n = context;
	n->sum += index * n->outer;
	return 0;
}

static long outer(__u64 index, void *context)
{
	struct nest *n = context;
	n->outer = index;
	bpf_loop(10, inner, n, 0);
	return 0;
}

SEC("syscall")
int ok_loop_in_a_loop(struct input *ctx)
{
	struct nest n = {};
	bpf_loop(10, outer, &n, 0);
	return n.sum;
}

static long outer_with_locals(__u64 index, void *context)
{
	struct nest local = {.outer = index};
	__u64 *total = context;
	bpf_loop(5, inner, &local, 0);
	*total += local.sum;
	return *total > 1000;
}

SEC("syscall")
int ok_loop_in_a_loop_with_locals(struct input *ctx)
{
	__u64 total = 0;
	bpf_loop(10, outer_with_locals, &total, 0);
	return total;
}

static long body_with_a_loop(__u64 index, void *context)
{
	__u64 *sum = context;
	for (int i = 0; i < 32; i++)
		*sum += values[i] ^ index;
	return 0;
}

SEC("syscall")
int ok_plain_loop_in_a_callback(struct input *ctx)
{
	__u64 sum = 0;
	bpf_loop(8, body_with_a_loop, &sum, 0);
	return sum;
}

SEC("syscall")
int ok_callbacks_in_a_plain_loop(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 8; i++)
		bpf_loop(i + 1, add_one, &sum, 0);
	return sum;
}

static long lookup_each(__u64 index, void *context)
{
	__u64 key = index;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);
	__u64 *sum = context;
	if (!p)
		return 0;
	*sum += p->a;
	return 0;
}

SEC("syscall")
int ok_lookups_in_a_callback(struct input *ctx)
{
	__u64 sum = 0;
	bpf_loop(50, lookup_each, &sum, 0);
	return sum;
}

static long each(void *map, const void *key, void *value, void *context)
{
	struct pair *p = value;
	__u64 *sum = context;
	*sum += p->a + *(const __u64 *)key;
	p->b = 0;
	return 0;
}

SEC("syscall")
int ok_for_each(struct input *ctx)
{
	__u64 sum = 0;
	bpf_for_each_map_elem(&pairs, each, &sum, 0);
	return sum;
}

static long each_stops(void *map, const __u32 *key, struct pair *p, struct search *s)
{
	if (p->a == s->wanted) {
		s->at = *key;
		s->found = 1;
		return 1;
	}
	return 0;
}

SEC("syscall")
int ok_for_each_that_stops(struct input *ctx)
{
	struct search s = {.wanted = ctx->a};
	bpf_for_each_map_elem(&slots, each_stops, &s, 0);
	return s.found ? s.at : -1;
}

static long each_without(void *map, const void *key, void *value, void *context)
{
	__sync_fetch_and_add(&out, 1);
	return 0;
}

SEC("syscall")
int ok_for_each_without_a_context(struct input *ctx)
{
	return bpf_for_each_map_elem(&pairs, each_without, NULL, 0);
}

static long each_deletes(void *map, const void *key, struct pair *p, void *context)
{
	if (p->a == 0)
		bpf_map_delete_elem(map, key);
	return 0;
}

SEC("syscall")
int ok_for_each_that_deletes(struct input *ctx)
{
	return bpf_for_each_map_elem(&pairs, each_deletes, NULL, 0);
}

static long each_loops(void *map, const void *key, struct pair *p, __u64 *context)
{
	bpf_loop(4, add_one, context, 0);
	*context += p->a;
	return 0;
}

SEC("syscall")
int ok_loop_in_for_each(struct input *ctx)
{
	__u64 sum = 0;
	bpf_for_each_map_elem(&pairs, each_loops, &sum, 0);
	return sum;
}

static long each_writes_the_key(void *map, __u64 *key, struct pair *p, void *context)
{
	*key = 1;
	return 0;
}

SEC("syscall")
int bad_read_only__key_of_a_callback(struct input *ctx)
{
	return bpf_for_each_map_elem(&pairs, each_writes_the_key, NULL, 0);
}

static long each_beyond(void *map, const void *key, __u64 *value, void *context)
{
	return value[2] & 1;
}

SEC("syscall")
int bad_out_of_bounds__value_of_a_callback(struct input *ctx)
{
	return bpf_for_each_map_elem(&pairs, each_beyond, NULL, 0);
}

static long returns_two(__u64 index, void *context)
{
	return 2;
}

SEC("syscall")
int bad_callback_result__two(struct input *ctx)
{
	return bpf_loop(3, returns_two, NULL, 0);
}

static long returns_anything(__u64 index, void *context)
{
	return bpf_get_prandom_u32();
}

SEC("syscall")
int bad_callback_result__anything(struct input *ctx)
{
	return bpf_loop(3, returns_anything, NULL, 0);
}

static long writes_beyond_its_context(__u64 index, void *context)
{
	__u64 *p = context;
	p[1] = index;
	return 0;
}

SEC("syscall")
int bad_stack_bounds__context_of_a_callback(struct input *ctx)
{
	__u64 sum = 0;
	asm volatile("r1 = 3; r2 = %0 ll; r3 = r10; r3 += -8; r4 = 0; *(u64 *)(r10 - 8) = r4; call 181"
		     ::"i"(writes_beyond_its_context) : "r0", "r1", "r2", "r3", "r4", "r5");
	return sum;
}

static long uses_a_null_context(__u64 index, void *context)
{
	__u64 *p = context;
	*p += index;
	return 0;
}

SEC("syscall")
int bad_not_a_pointer__null_context(struct input *ctx)
{
	return bpf_loop(3, uses_a_null_context, NULL, 0);
}

static long grows(__u64 index, void *context)
{
	__u32 *at = context;
	values[*at] = 1;
	*at += 1;
	return 0;
}

SEC("syscall")
int bad_out_of_bounds__a_counter_that_is_not_checked(struct input *ctx)
{
	__u32 at = 0;
	bpf_loop(100, grows, &at, 0);
	return at;
}

static long trusts(__u64 index, void *context)
{
	struct search *s = context;
	s->at = 1000;
	return 0;
}

SEC("syscall")
int bad_pointer_offset__what_the_callback_changed(struct input *ctx)
{
	struct search s = {.at = 1};
	bpf_loop(ctx->n, trusts, &s, 0);
	return values[*(volatile __u32 *)&s.at];
}

static __noinline long recursive(__u64 n)
{
	if (n == 0)
		return 0;
	barrier_var(n);
	return recursive(n - 1) * 3 + 1;
}

SEC("syscall")
int bad_recursion__of_a_function(struct input *ctx)
{
	return recursive(ctx->n & 3);
}
