/* Ring buffers, queues, maps of maps, tail calls, strings, arguments of helpers. */
#include "kernel.h"

struct event {
	__u32 kind;
	__u32 size;
	__u64 when;
	__u8 data[48];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct event);
} stored SEC(".maps");

struct inner_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} inner_one SEC(".maps"), inner_two SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, struct inner_map);
} outer_array SEC(".maps") = {.values = {&inner_one, &inner_two}};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, struct inner_map);
} outer_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16);
	__type(value, __u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 16);
	__type(value, __u64);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, __u64);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, __u64);
} frozen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_WRONLY_PROG);
	__type(key, __u32);
	__type(value, __u64);
} sink SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} programs SEC(".maps");

__u64 seen;

SEC("syscall")
int ok_reserve_and_submit(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->kind = 1;
	e->when = bpf_ktime_get_ns();
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int ok_submit_or_discard(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 1;
	e->kind = ctx->n;
	if (ctx->n == 7) {
		bpf_ringbuf_discard(e, 0);
		return 2;
	}
	memset(e->data, 0, sizeof(e->data));
	e->size = ctx->m;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int ok_two_records_at_once(struct input *ctx)
{
	struct event *a = bpf_ringbuf_reserve(&events, sizeof(*a), 0), *b;
	if (!a)
		return 0;
	b = bpf_ringbuf_reserve(&events, sizeof(*b), 0);
	if (!b)
		goto discard;
	b->when = a->when = bpf_ktime_get_ns();
	bpf_ringbuf_submit(b, 0);
	bpf_ringbuf_submit(a, 0);
	return 0;
discard:
	bpf_ringbuf_discard(a, 0);
	return 1;
}

static __noinline void send(struct event *e)
{
	e->size = 3;
	bpf_ringbuf_submit(e, 0);
}

SEC("syscall")
int ok_record_is_submitted_by_a_function(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e)
		send(e);
	return 0;
}

static __noinline struct event *begin(__u32 kind)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e)
		e->kind = kind;
	return e;
}

SEC("syscall")
int ok_record_is_reserved_by_a_function(struct input *ctx)
{
	struct event *e = begin(ctx->n);
	if (!e)
		return 0;
	e->size = 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int ok_record_as_a_value(struct input *ctx)
{
	__u32 key = ctx->n;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	memset(e, 0, sizeof(*e));
	bpf_map_update_elem(&stored, &key, e, BPF_ANY);
	bpf_ringbuf_discard(e, 0);
	return 0;
}

SEC("syscall")
int ok_output_from_the_stack(struct input *ctx)
{
	struct event e = {};
	e.kind = ctx->n;
	return bpf_ringbuf_output(&events, &e, sizeof(e), 0);
}

SEC("syscall")
int ok_output_of_a_bounded_size(struct input *ctx)
{
	struct event e = {};
	__u32 size = ctx->n;
	if (size > sizeof(e))
		size = sizeof(e);
	return bpf_ringbuf_output(&events, &e, size, 0);
}

SEC("syscall")
int ok_output_of_a_masked_size(struct input *ctx)
{
	__u8 bytes[64] = {};
	return bpf_ringbuf_output(&events, bytes, ctx->n & 63, 0);
}

SEC("syscall")
int ok_query(struct input *ctx)
{
	return bpf_ringbuf_query(&events, 0) > 1000;
}

SEC("syscall")
int bad_unreleased__on_one_way(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	if (ctx->n)
		return 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_unreleased__never(struct input *ctx)
{
	bpf_ringbuf_reserve(&events, 8, 0);
	return 0;
}

SEC("syscall")
int bad_uninitialised_register__use_after_submit(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	bpf_ringbuf_submit(e, 0);
	return e->kind;
}

SEC("syscall")
int bad_uninitialised_register__submitted_twice(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	bpf_ringbuf_submit(e, 0);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_maybe_null__record(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	e->kind = 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_out_of_bounds__record(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e) - 1, 0);
	if (!e)
		return 0;
	*(volatile __u8 *)&e->data[47] = 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_helper_size__record_of_unknown_size(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, ctx->n & 63, 0);
	if (!e)
		return 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_helper_argument__submit_of_the_middle(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	bpf_ringbuf_submit(&e->when, 0);
	return 0;
}

SEC("syscall")
int bad_helper_argument__submit_of_the_stack(struct input *ctx)
{
	struct event e = {};
	bpf_ringbuf_submit(&e, 0);
	return 0;
}

SEC("syscall")
int bad_pointer_leak__into_a_record(struct input *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->when = (__u64)e;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("syscall")
int bad_stack_bounds__output_beyond(struct input *ctx)
{
	struct event e = {};
	return bpf_ringbuf_output(&events, &e, 513, 0);
}

SEC("syscall")
int bad_stack_uninitialised__output(struct input *ctx)
{
	struct event e;
	e.kind = 1;
	barrier();
	return bpf_ringbuf_output(&events, &e, sizeof(e), 0);
}

SEC("syscall")
int bad_helper_size__output_of_unknown_size(struct input *ctx)
{
	struct event e = {};
	return bpf_ringbuf_output(&events, &e, ctx->a, 0);
}

SEC("syscall")
int bad_map_kind__lookup_in_a_ring(struct input *ctx)
{
	__u32 key = 0;
	return bpf_map_lookup_elem(&events, &key) != NULL;
}

SEC("syscall")
int bad_map_kind__reserve_in_a_hash(struct input *ctx)
{
	void *p = bpf_ringbuf_reserve(&stored, 8, 0);
	if (p)
		bpf_ringbuf_discard(p, 0);
	return 0;
}

SEC("syscall")
int bad_helper_argument__a_number_as_map(struct input *ctx)
{
	__u32 key = 0;
	return bpf_map_lookup_elem((void *)ctx->a, &key) != NULL;
}

SEC("syscall")
int bad_helper_argument__a_number_as_key(struct input *ctx)
{
	return bpf_map_lookup_elem(&stored, (void *)ctx->a) != NULL;
}

SEC("syscall")
int bad_helper_argument__the_context_as_key(struct input *ctx)
{
	return bpf_map_lookup_elem(&stored, ctx) != NULL;
}

SEC("syscall")
int bad_stack_bounds__a_key_at_the_edge(struct input *ctx)
{
	asm volatile("r1 = %0 ll; r2 = r10; r2 += -2; r3 = 0; *(u16 *)(r10 - 2) = r3; call 1" ::"i"(&stored)
		     : "r0", "r1", "r2", "r3", "r4", "r5");
	return 0;
}

SEC("syscall")
int bad_unknown_helper__9999(struct input *ctx)
{
	long (*unknown)(void) = (void *)9999;
	return unknown();
}

SEC("syscall")
int ok_map_in_an_array(struct input *ctx)
{
	__u32 key = ctx->n, slot = 1;
	__u64 *v;
	void *map = bpf_map_lookup_elem(&outer_array, &key);
	if (!map)
		return 0;
	v = bpf_map_lookup_elem(map, &slot);
	if (!v)
		return 0;
	*v += 1;
	return *v;
}

SEC("syscall")
int ok_map_in_a_hash(struct input *ctx)
{
	__u32 key = ctx->n, slot = ctx->m;
	__u64 value = ctx->a;
	void *map = bpf_map_lookup_elem(&outer_hash, &key);
	if (!map)
		return 0;
	bpf_map_update_elem(map, &slot, &value, BPF_ANY);
	return 0;
}

SEC("syscall")
int bad_maybe_null__inner_map(struct input *ctx)
{
	__u32 key = ctx->n, slot = 1;
	void *map = bpf_map_lookup_elem(&outer_array, &key);
	return bpf_map_lookup_elem(map, &slot) != NULL;
}

SEC("syscall")
int bad_out_of_bounds__inner_value(struct input *ctx)
{
	__u32 key = ctx->n, slot = ctx->m;
	__u64 *v;
	void *map = bpf_map_lookup_elem(&outer_array, &key);
	if (!map)
		return 0;
	v = bpf_map_lookup_elem(map, &slot);
	return v ? v[1] : 0;
}

SEC("socket")
int ok_queue(struct input *ctx)
{
	__u64 value = bpf_get_prandom_u32();
	bpf_map_push_elem(&queue, &value, BPF_ANY);
	if (bpf_map_pop_elem(&queue, &value))
		return 0;
	bpf_map_push_elem(&stack, &value, BPF_ANY);
	if (bpf_map_peek_elem(&stack, &value))
		return 0;
	return value;
}

SEC("socket")
int ok_pop_into_memory_that_was_not_written(struct input *ctx)
{
	__u64 value;
	if (bpf_map_pop_elem(&queue, &value))
		return 0;
	return value;
}

SEC("socket")
int ok_bloom_filter(struct input *ctx)
{
	__u64 value = bpf_get_prandom_u32();
	bpf_map_push_elem(&bloom, &value, BPF_ANY);
	return bpf_map_peek_elem(&bloom, &value) == 0;
}

SEC("socket")
int bad_stack_uninitialised__bloom_filter(struct input *ctx)
{
	__u64 value;
	return bpf_map_peek_elem(&bloom, &value) == 0;
}

SEC("syscall")
int ok_read_only_map(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 *v = bpf_map_lookup_elem(&frozen, &key);
	return v ? *v : 0;
}

SEC("syscall")
int bad_read_only__map(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 *v = bpf_map_lookup_elem(&frozen, &key);
	if (v)
		*v = 1;
	return 0;
}

SEC("syscall")
int bad_read_only__update_of_a_map(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 value = 1;
	return bpf_map_update_elem(&frozen, &key, &value, BPF_ANY);
}

SEC("syscall")
int bad_write_only__map(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 *v = bpf_map_lookup_elem(&sink, &key);
	return v ? *v : 0;
}

SEC("socket")
int ok_tail_call(struct input *ctx)
{
	__u32 *words = (void *)ctx;
	seen++;
	bpf_tail_call(ctx, &programs, words[2] & 3);
	return 0;
}

SEC("socket")
int bad_unreleased__over_a_tail_call(struct input *ctx)
{
	void *e = bpf_ringbuf_reserve(&events, 8, 0);
	if (!e)
		return 0;
	bpf_tail_call(ctx, &programs, 1);
	bpf_ringbuf_discard(e, 0);
	return 0;
}

SEC("syscall")
int ok_compare_with_a_constant(struct input *ctx)
{
	char name[16] = {};
	name[0] = ctx->n;
	name[1] = ctx->m;
	return bpf_strncmp(name, sizeof(name), "duck") == 0;
}

SEC("syscall")
int bad_pointer_arithmetic__and(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	asm volatile("%0 &= -8" : "+r"(p));
	*p = 1;
	return x;
}

SEC("syscall")
int bad_pointer_arithmetic__multiplied(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	asm volatile("%0 *= 2" : "+r"(p));
	return p != NULL;
}

SEC("syscall")
int bad_pointer_arithmetic__of_32_bits(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	asm volatile("r1 = %0; w1 += 8; r0 = 0" ::"r"(p) : "r0", "r1");
	return x;
}

SEC("syscall")
int bad_pointer_comparison__two_stacks(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	__u32 key = 0;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e)
		return 0;
	if ((__u64)p > (__u64)e)
		return 1;
	return x;
}

SEC("syscall")
int bad_pointer_arithmetic__difference(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	__u64 d;
	barrier_var(p);
	asm volatile("%0 = %1; %0 -= %2" : "=&r"(d) : "r"(p), "r"(ctx));
	return d;
}

SEC("syscall")
int bad_pointer_comparison__with_a_number(struct input *ctx)
{
	__u64 x = ctx->a, *p = &x;
	if ((__u64)p > 0x1000)
		return 1;
	return x;
}

SEC("syscall")
int bad_stack_pointer_part__half_of_a_pointer(struct input *ctx)
{
	asm volatile("*(u64 *)(r10 - 8) = %0; r0 = *(u32 *)(r10 - 8)" ::"r"(ctx) : "r0", "memory");
	return 0;
}

SEC("syscall")
int bad_stack_pointer_corrupted__a_byte(struct input *ctx)
{
	asm volatile("*(u64 *)(r10 - 8) = %0; r1 = 0; *(u8 *)(r10 - 6) = r1; r1 = *(u64 *)(r10 - 8); r0 = *(u64 *)(r1 + 0)" ::"r"(ctx)
		     : "r0", "r1", "memory");
	return 0;
}

SEC("syscall")
int bad_pointer_leak__half_is_spilled(struct input *ctx)
{
	asm volatile("*(u32 *)(r10 - 8) = %0; r0 = 0" ::"r"(ctx) : "r0", "memory");
	return 0;
}

SEC("syscall")
int bad_misaligned__stack(struct input *ctx)
{
	asm volatile("r1 = 0; *(u64 *)(r10 - 12) = r1; r0 = 0" ::: "r0", "r1", "memory");
	return 0;
}

SEC("syscall")
int ok_map_value_of_any_alignment(struct input *ctx)
{
	__u32 key = ctx->n;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e)
		return 0;
	return *(__u64 *)&e->data[3];
}

SEC("syscall")
int bad_stack_uninitialised__read(struct input *ctx)
{
	asm volatile("r0 = *(u64 *)(r10 - 16)" ::: "r0", "memory");
	return 0;
}

SEC("syscall")
int bad_uninitialised_register__argument(struct input *ctx)
{
	asm volatile("r0 = r7" ::: "r0");
	return 0;
}

SEC("syscall")
int bad_uninitialised_register__after_a_call(struct input *ctx)
{
	asm volatile("r2 = 1; call 5; r0 = r2" ::: "r0", "r1", "r2", "r3", "r4", "r5");
	return 0;
}

SEC("syscall")
int bad_stack_bounds__below(struct input *ctx)
{
	asm volatile("r1 = 0; *(u64 *)(r10 - 520) = r1; r0 = 0" ::: "r0", "r1", "memory");
	return 0;
}

SEC("syscall")
int bad_stack_bounds__above(struct input *ctx)
{
	asm volatile("r1 = 0; *(u64 *)(r10 + 0) = r1; r0 = 0" ::: "r0", "r1", "memory");
	return 0;
}

SEC("syscall")
int bad_not_a_pointer__number_as_address(struct input *ctx)
{
	return *(__u32 *)ctx->a;
}

SEC("syscall")
int bad_not_a_pointer__pointer_through_a_map(struct input *ctx)
{
	__u32 key = ctx->n;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e)
		return 0;
	return *(__u32 *)e->when;
}

SEC("syscall")
int bad_not_memory__map_itself(struct input *ctx)
{
	asm volatile("r1 = %0 ll; r0 = *(u64 *)(r1 + 0); r0 = 0" ::"i"(&stored) : "r0", "r1");
	return 0;
}

SEC("syscall")
int bad_pointer_offset__unbounded(struct input *ctx)
{
	__u32 key = ctx->n;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e)
		return 0;
	return e->data[ctx->a];
}

SEC("syscall")
int bad_out_of_bounds__by_one(struct input *ctx)
{
	__u32 key = ctx->n, i = ctx->m;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e || i > 48)
		return 0;
	return e->data[i];
}

SEC("syscall")
int bad_out_of_bounds__negative(struct input *ctx)
{
	__u32 key = ctx->n;
	struct event *e = bpf_map_lookup_elem(&stored, &key);
	if (!e)
		return 0;
	return ((volatile __u8 *)e)[-1];
}
