/* Null checks, global variables, arithmetic, built-ins. */
#include "kernel.h"

struct counts {
	__u64 calls;
	__u64 bytes;
	__u32 last[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct counts);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct counts);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, struct counts);
	__type(value, __u64);
} lru SEC(".maps");

__u64 total;
__u32 table[64] = {1, 2, 3};
static __u64 hidden[8];
const volatile __u32 limit = 10;
const volatile __u8 weights[16] = {1, 2, 3, 4, 5, 6, 7, 8};

SEC("syscall")
int ok_null_check(struct input *ctx)
{
	__u32 key = ctx->n;
	struct counts *c = bpf_map_lookup_elem(&hash, &key);
	if (!c)
		return 0;
	c->calls++;
	c->bytes += ctx->a;
	return 0;
}

SEC("syscall")
int ok_null_check_through_copy(struct input *ctx)
{
	__u32 key = ctx->n;
	struct counts *c = bpf_map_lookup_elem(&hash, &key), *copy = c;
	barrier_var(copy);
	if (!copy)
		return 0;
	barrier_var(c);
	copy->calls++;
	return 1;
}

SEC("syscall")
int ok_copy_kept_in_two_registers(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 found;
	struct counts *c = bpf_map_lookup_elem(&hash, &key);
	asm volatile("%0 = %1" : "=r"(found) : "r"(c));
	if (found == 0)
		return 0;
	__sync_fetch_and_add(&c->calls, 1);
	return c->last[3];
}

SEC("syscall")
int ok_two_lookups(struct input *ctx)
{
	__u32 key = ctx->n, other = ctx->m;
	struct counts *a = bpf_map_lookup_elem(&hash, &key);
	struct counts *b = bpf_map_lookup_elem(&hash, &other);
	if (!a)
		return 1;
	a->bytes = 0;
	if (!b)
		return 2;
	b->bytes = a->calls;
	return 0;
}

SEC("syscall")
int ok_insert_if_missing(struct input *ctx)
{
	__u32 key = ctx->n;
	struct counts *c = bpf_map_lookup_elem(&hash, &key);
	if (!c) {
		struct counts fresh = {};
		fresh.calls = 1;
		bpf_map_update_elem(&hash, &key, &fresh, BPF_ANY);
		c = bpf_map_lookup_elem(&hash, &key);
		if (!c)
			return 1;
	}
	c->last[key & 3] = ctx->m;
	return 0;
}

SEC("syscall")
int ok_array_of_constant_key(struct input *ctx)
{
	__u32 key = 3;
	struct counts *c = bpf_map_lookup_elem(&array, &key);
	if (c)
		c->calls += ctx->a;
	return 0;
}

/* Later kernels see that the key is there, but only of keys that are spilled on 8 bytes. */
SEC("syscall")
int bad_maybe_null__array_of_a_known_key(struct input *ctx)
{
	__u32 key = 3;
	struct counts *c = bpf_map_lookup_elem(&array, &key);
	c->calls += ctx->a;
	return 0;
}

SEC("syscall")
int bad_maybe_null__array_key_out_of_range(struct input *ctx)
{
	__u32 key = 16;
	struct counts *c = bpf_map_lookup_elem(&array, &key);
	c->calls += ctx->a;
	return 0;
}

SEC("syscall")
int bad_maybe_null__array_key_unknown(struct input *ctx)
{
	__u32 key = ctx->n & 15;
	struct counts *c = bpf_map_lookup_elem(&array, &key);
	c->calls += ctx->a;
	return 0;
}

SEC("syscall")
int bad_maybe_null__hash(struct input *ctx)
{
	__u32 key = 1;
	struct counts *c = bpf_map_lookup_elem(&hash, &key);
	c->calls += ctx->a;
	return 0;
}

SEC("syscall")
int bad_maybe_null__checked_the_other(struct input *ctx)
{
	__u32 key = ctx->n, other = ctx->m;
	struct counts *a = bpf_map_lookup_elem(&hash, &key);
	struct counts *b = bpf_map_lookup_elem(&hash, &other);
	if (!a)
		return 0;
	a->bytes = 1;
	return b->calls;
}

SEC("syscall")
int bad_not_a_pointer__checked_the_wrong_way(struct input *ctx)
{
	__u32 key = ctx->n;
	struct counts *a = bpf_map_lookup_elem(&hash, &key);
	if (a)
		return 0;
	asm volatile("r1 = *(u64 *)(%0 + 0)" ::"r"(a) : "r1");
	return 0;
}

SEC("syscall")
int bad_maybe_null__moved_before_the_check(struct input *ctx)
{
	__u32 key = ctx->n;
	struct counts *a = bpf_map_lookup_elem(&hash, &key);
	__u64 *p = (void *)a;
	asm volatile("%0 += 8" : "+r"(p));
	if (!p)
		return 0;
	*p = 1;
	return 0;
}

SEC("syscall")
int ok_percpu(struct input *ctx)
{
	__u32 key = ctx->n;
	__u64 *v = bpf_map_lookup_elem(&percpu, &key);
	if (v)
		*v += 1;
	v = bpf_map_lookup_percpu_elem(&percpu, &key, 0);
	return v ? (int)*v : 0;
}

SEC("syscall")
int ok_struct_as_key(struct input *ctx)
{
	struct counts key = {};
	__u64 one = 1, *v;
	key.calls = ctx->a;
	key.last[2] = ctx->n;
	v = bpf_map_lookup_elem(&lru, &key);
	if (v)
		__sync_fetch_and_add(v, 1);
	else
		bpf_map_update_elem(&lru, &key, &one, BPF_ANY);
	return 0;
}

/* To the kernel the other half of eight bytes counts as written too, without CAP_PERFMON. */
SEC("syscall")
int theirs_stack_uninitialised__padding_of_a_key(struct input *ctx)
{
	struct counts key;
	key.calls = ctx->a;
	key.bytes = 1;
	key.last[0] = 1;
	key.last[1] = 1;
	key.last[2] = 1;
	bpf_map_lookup_elem(&lru, &key);
	return 0;
}

SEC("syscall")
int ok_globals(struct input *ctx)
{
	__u32 i = ctx->n;
	total += ctx->a;
	__sync_fetch_and_add(&total, 1);
	if (i < 64)
		table[i] += limit;
	hidden[ctx->m & 7] ^= ctx->b;
	return hidden[(ctx->m >> 3) & 7] + weights[ctx->n & 15];
}

SEC("syscall")
int ok_rodata_bounds_a_loop(struct input *ctx)
{
	__u64 sum = 0;
	for (__u32 i = 0; i < limit; i++)
		sum += table[i & 63];
	return sum;
}

SEC("syscall")
int bad_out_of_bounds__table_by_one(struct input *ctx)
{
	__u32 i = ctx->n;
	if (i <= 64)
		table[i] = 1;
	return 0;
}

SEC("syscall")
int bad_pointer_offset__signed_index(struct input *ctx)
{
	__s32 i = ctx->n;
	if (i < 64)
		table[i] = 1;
	return 0;
}

SEC("syscall")
int ok_signed_index(struct input *ctx)
{
	__s32 i = ctx->n;
	if (i >= 0 && i < 64)
		table[i] = 1;
	return 0;
}

SEC("syscall")
int ok_signed_index_64(struct input *ctx)
{
	__s64 i = ctx->a;
	if (i < 0 || i > 63)
		return 0;
	return table[i];
}

SEC("syscall")
int bad_read_only__rodata(struct input *ctx)
{
	asm volatile("*(u32 *)(%0 + 0) = %1" ::"r"(&limit), "r"(ctx->a) : "memory");
	return 0;
}

SEC("syscall")
int ok_mask(struct input *ctx)
{
	__u64 i = ctx->a;
	i &= 0x3f;
	table[i]++;
	return table[(i * 7) % 64];
}

/* The kernel knows nothing of remainders. */
SEC("syscall")
int ours_modulo(struct input *ctx)
{
	return table[ctx->n % 64] + table[ctx->a % 33];
}

SEC("syscall")
int bad_out_of_bounds__modulo_by_one(struct input *ctx)
{
	return table[ctx->n % 65];
}

SEC("syscall")
int ok_shift_as_bound(struct input *ctx)
{
	__u32 x = ctx->n;
	return table[x >> 26] + table[(__u8)x >> 2];
}

SEC("syscall")
int ok_arithmetic_32(struct input *ctx)
{
	__u32 x = ctx->n, y = ctx->m;
	__u32 z = x * 3 + y / 7 - (x ^ y);
	z = (z << 5) | (z >> 27);
	z -= x % (y | 1);
	return z;
}

SEC("syscall")
int ok_arithmetic_64(struct input *ctx)
{
	__u64 x = ctx->a, y = ctx->b;
	x = (x * 0x9e3779b97f4a7c15ULL) ^ (x >> 29);
	y = (y << 17) | (y >> 47);
	return (int)((x + y) / (ctx->c | 1));
}

SEC("syscall")
int ok_signed_division(struct input *ctx)
{
	__s64 x = ctx->signed_number;
	__s32 y = ctx->n;
#if __BPF_CPU_VERSION__ >= 4
	return (int)(x / 7) + (int)(x % 5) + y / 3 + y % 11;
#else
	return (int)(x >> 3) + (y >> 2);
#endif
}

SEC("syscall")
int ok_sign_extension(struct input *ctx)
{
	__s8 a = ctx->bytes[0];
	__s16 b = *(__s16 *)&ctx->bytes[2];
	__s32 c = (__s32)ctx->n;
	__s64 sum = (__s64)a + b + c;
	return sum < 0 ? -1 : 1;
}

SEC("syscall")
int ok_byte_order(struct input *ctx)
{
	__u16 port = __builtin_bswap16((__u16)ctx->n);
	__u32 address = __builtin_bswap32(ctx->m);
	__u64 both = __builtin_bswap64(ctx->a);
	return port + (address >> 8) + (int)(both & 0xff);
}

SEC("syscall")
int ok_bit_counting(struct input *ctx)
{
	__u32 x = ctx->n;
	x = x - ((x >> 1) & 0x55555555);
	x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
	return (((x + (x >> 4)) & 0x0f0f0f0f) * 0x01010101) >> 24;
}

SEC("syscall")
int ok_log2(struct input *ctx)
{
	__u32 v = ctx->n, r, shift;
	r = (v > 0xffff) << 4;
	v >>= r;
	shift = (v > 0xff) << 3;
	v >>= shift;
	r |= shift;
	shift = (v > 0xf) << 2;
	v >>= shift;
	r |= shift;
	shift = (v > 0x3) << 1;
	v >>= shift;
	r |= shift;
	r |= v >> 1;
	if (r < 32)
		table[r]++;
	return r;
}

SEC("syscall")
int ok_memcpy_and_memset(struct input *ctx)
{
	struct counts a, b;
	__u32 key = ctx->n;
	memset(&a, 0, sizeof(a));
	a.calls = ctx->a;
	memcpy(&b, &a, sizeof(b));
	b.last[1] = 7;
	memcpy(a.last, b.last, sizeof(a.last));
	return bpf_map_update_elem(&hash, &key, &b, BPF_ANY) + a.last[1];
}

SEC("syscall")
int ok_memcpy_from_a_map(struct input *ctx)
{
	__u32 key = ctx->n, other = ctx->m;
	struct counts copy, *c = bpf_map_lookup_elem(&hash, &key);
	if (!c)
		return 0;
	memcpy(&copy, c, sizeof(copy));
	copy.calls++;
	bpf_map_update_elem(&hash, &other, &copy, BPF_ANY);
	bpf_map_update_elem(&hash, &other, c, BPF_ANY);
	return 0;
}

SEC("syscall")
int ok_atomics(struct input *ctx)
{
	__u64 old = __sync_fetch_and_add(&total, ctx->a);
	old ^= __sync_fetch_and_or(&hidden[0], 1);
	old ^= __sync_fetch_and_and(&hidden[1], ctx->b);
	old ^= __sync_fetch_and_xor(&hidden[2], ctx->c);
	old ^= __sync_lock_test_and_set(&hidden[3], ctx->d);
	old ^= __sync_val_compare_and_swap(&hidden[4], ctx->a, ctx->b);
	__u32 word = __sync_fetch_and_add(&table[1], 1);
	return (int)old + word;
}

SEC("syscall")
int ok_atomic_on_the_stack(struct input *ctx)
{
	__u64 x = ctx->a;
	__sync_fetch_and_add(&x, 2);
	barrier();
	return x;
}

SEC("syscall")
int bad_misaligned__atomic(struct input *ctx)
{
	__u8 *p = (void *)hidden;
	barrier_var(p);
	__sync_fetch_and_add((__u64 *)(p + 4), 1);
	return 0;
}

SEC("syscall")
int ok_conditional_expressions(struct input *ctx)
{
	__u32 n = ctx->n;
	__u32 size = n > 32 ? 32 : n;
	__u32 low = n < ctx->m ? n : ctx->m;
	return table[size] + (low < 64 ? table[low] : 0);
}

SEC("syscall")
int ok_context_narrow_loads(struct input *ctx)
{
	__u8 *bytes = (__u8 *)ctx;
	return bytes[0] + *(__u16 *)(bytes + 2) + *(__u32 *)(bytes + 4) + ctx->bytes[63];
}

SEC("syscall")
int ok_context_is_written(struct input *ctx)
{
	ctx->a = 7;
	ctx->n++;
	ctx->bytes[3] = 1;
	return 0;
}

SEC("syscall")
int bad_pointer_leak__into_the_context(struct input *ctx)
{
	__u64 on_stack = ctx->a;
	ctx->a = (__u64)&on_stack;
	barrier();
	return 0;
}

SEC("syscall")
int bad_context_field__negative(struct input *ctx)
{
	asm volatile("r0 = *(u64 *)(%0 - 8)" ::"r"(ctx) : "r0");
	return 0;
}

SEC("syscall")
int bad_context_field__misaligned(struct input *ctx)
{
	asm volatile("r0 = *(u64 *)(%0 + 4)" ::"r"(ctx) : "r0");
	return 0;
}

SEC("socket")
int ok_socket_filter(struct input *ctx)
{
	__u32 *words = (void *)ctx;
	return words[0] > 100 ? words[2] : 0;
}

SEC("raw_tp/sys_enter")
int ok_raw_tracepoint(__u64 *ctx)
{
	total += ctx[1];
	return 0;
}

SEC("tp/sched/sched_switch")
int ok_tracepoint(struct input *ctx)
{
	total += ctx->b;
	return 0;
}

SEC("tp/sched/sched_switch")
int bad_context_write__tracepoint(struct input *ctx)
{
	ctx->b = 1;
	return 0;
}
