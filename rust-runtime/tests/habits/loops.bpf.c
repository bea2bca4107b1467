/* Loops: over buffers, nested, sorting, searching, parsing. */
#include "kernel.h"

#define SIZE 64

struct buffer {
	__u32 used;
	__u8 data[SIZE];
	__u64 words[SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct buffer);
} buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__u8 text[256];
__u64 matrix[16][16];
__u64 result;
__u32 big[2048] SEC(".data.big");

static __always_inline struct buffer *get(__u32 key)
{
	return bpf_map_lookup_elem(&buffers, &key);
}

SEC("syscall")
int ok_sum_of_a_map_value(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u64 sum = 0;
	if (!b)
		return 0;
	for (int i = 0; i < SIZE; i++)
		sum += b->words[i];
	return sum;
}

SEC("syscall")
int ok_loop_up_to_a_number_that_is_checked(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u64 sum = 0;
	__u32 n = ctx->m;
	if (!b)
		return 0;
	if (n > SIZE)
		n = SIZE;
	for (__u32 i = 0; i < n; i++)
		sum += b->words[i];
	return sum;
}

SEC("syscall")
int ok_loop_with_break_on_a_field(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u64 sum = 0;
	if (!b)
		return 0;
	for (__u32 i = 0; i < SIZE; i++) {
		if (i >= b->used)
			break;
		sum += b->data[i];
	}
	return sum;
}

SEC("syscall")
int ok_pointer_walk_with_end(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	if (!b)
		return 0;
	__u8 *p = b->data, *end = b->data + SIZE;
	__u64 sum = 0;
	for (int i = 0; i < SIZE / 8; i++) {
		if (p + 8 > end)
			break;
		sum += *(__u64 *)p;
		p += 8;
	}
	return sum;
}

SEC("syscall")
int ok_records_of_their_own_length(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 at = 0, seen = 0;
	if (!b)
		return 0;
	for (int i = 0; i < 16; i++) {
		__u32 length;
		if (at >= SIZE - 1)
			break;
		length = b->data[at];
		if (length == 0)
			break;
		at += length + 1;
		seen++;
	}
	return seen;
}

SEC("syscall")
int ok_loop_over_2048_elements(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 2048; i++)
		sum += big[i];
	return sum;
}

SEC("syscall")
int ok_loop_downward(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 2047; i >= 0; i--)
		sum = sum * 31 + big[i];
	return sum;
}

SEC("syscall")
int ok_loop_by_steps(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 2048; i += 4)
		sum += big[i] + big[i + 3];
	return sum;
}

SEC("syscall")
int ok_nested(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			sum += matrix[i][j] * (i + j);
	return sum;
}

SEC("syscall")
int ok_nested_triangle(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 16; i++)
		for (int j = i; j < 16; j++)
			sum += matrix[i][j];
	return sum;
}

SEC("syscall")
int ok_three_deep(struct input *ctx)
{
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++) {
			__u64 sum = 0;
			for (int k = 0; k < 8; k++)
				sum += matrix[i][k] * matrix[k][j];
			matrix[i + 8][j + 8] = sum;
		}
	return 0;
}

SEC("syscall")
int ok_bubble_sort_on_the_stack(struct input *ctx)
{
	__u32 a[8];
	for (int i = 0; i < 8; i++)
		a[i] = ctx->words[i];
	for (int i = 0; i < 7; i++)
		for (int j = 0; j < 7 - i; j++)
			if (a[j] > a[j + 1]) {
				__u32 t = a[j];
				a[j] = a[j + 1];
				a[j + 1] = t;
			}
	return a[0] + a[7];
}

SEC("syscall")
int ok_bubble_sort_of_sixteen(struct input *ctx)
{
	__u64 a[16];
	for (int i = 0; i < 16; i++)
		a[i] = matrix[0][i];
#pragma clang loop unroll(disable)
	for (int i = 0; i < 15; i++)
#pragma clang loop unroll(disable)
		for (int j = 0; j < 15 - i; j++)
			if (a[j] > a[j + 1]) {
				__u64 t = a[j];
				a[j] = a[j + 1];
				a[j + 1] = t;
			}
	for (int i = 0; i < 16; i++)
		matrix[0][i] = a[i];
	return 0;
}

SEC("syscall")
int ok_insertion_sort_in_a_map(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	if (!b)
		return 0;
	for (int i = 1; i < 12; i++) {
		__u64 key = b->words[i];
		int j = i - 1;
		while (j >= 0 && b->words[j] > key) {
			b->words[j + 1] = b->words[j];
			j--;
		}
		b->words[j + 1] = key;
	}
	return 0;
}

SEC("syscall")
int ok_selection_sort(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	if (!b)
		return 0;
	for (int i = 0; i < 10; i++) {
		int least = i;
		for (int j = i + 1; j < 10; j++)
			if (b->words[j] < b->words[least])
				least = j;
		__u64 t = b->words[i];
		b->words[i] = b->words[least & 63];
		b->words[least & 63] = t;
	}
	return 0;
}

/* More instructions than the kernel visits. */
SEC("syscall")
int ours_binary_search(struct input *ctx)
{
	__u32 low = 0, high = 2048;
	__u32 wanted = ctx->n;
	for (int i = 0; i < 12 && low < high; i++) {
		__u32 middle = (low + high) / 2;
		if (middle >= 2048)
			break;
		if (big[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

SEC("syscall")
int ok_parse_a_number(struct input *ctx)
{
	__u64 value = 0;
	for (int i = 0; i < 64; i++) {
		__u8 c = ctx->bytes[0];
		c = text[i];
		if (c < '0' || c > '9')
			break;
		value = value * 10 + (c - '0');
	}
	return value;
}

SEC("syscall")
int ok_string_length(struct input *ctx)
{
	int i;
	for (i = 0; i < 255; i++)
		if (!text[i])
			break;
	return i;
}

SEC("syscall")
int ok_copy_a_string(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	char copy[32] = {};
	if (!b)
		return 0;
	for (int i = 0; i < 31; i++) {
		copy[i] = b->data[i];
		if (!copy[i])
			break;
	}
	return copy[0] + copy[31];
}

SEC("syscall")
int ok_compare_strings(struct input *ctx)
{
	const char wanted[] = "/proc/self/maps";
	for (int i = 0; i < sizeof(wanted) - 1; i++)
		if (text[i] != wanted[i])
			return 0;
	return 1;
}

/* More instructions than the kernel visits. */
SEC("syscall")
int ours_split_fields(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 starts[8] = {}, fields = 0;
	if (!b)
		return 0;
	for (__u32 i = 0; i < SIZE; i++) {
		if (b->data[i] != ',')
			continue;
		if (fields < 8)
			starts[fields] = i;
		fields++;
	}
	return fields + starts[0] + starts[ctx->m & 7];
}

SEC("syscall")
int ok_hash_of_bytes(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 h = 2166136261;
	if (!b)
		return 0;
	for (int i = 0; i < SIZE; i++) {
		h ^= b->data[i];
		h *= 16777619;
	}
	return h;
}

/* More instructions than the kernel visits. */
SEC("syscall")
int ours_crc_bit_by_bit(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 crc = ~0U;
	if (!b)
		return 0;
	for (int i = 0; i < SIZE; i++) {
		crc ^= b->data[i];
		for (int k = 0; k < 8; k++)
			crc = (crc >> 1) ^ (0xedb88320 & -(crc & 1));
	}
	return ~crc;
}

SEC("syscall")
int ok_checksum(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 sum = 0;
	if (!b)
		return 0;
	for (int i = 0; i < SIZE; i += 2)
		sum += *(__u16 *)&b->data[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* Without CAP_PERFMON more instructions than the kernel visits, which does not count. */
SEC("syscall")
int ok_gcd(struct input *ctx)
{
	__u32 a = ctx->n, b = ctx->m;
	for (int i = 0; i < 48 && b; i++) {
		__u32 t = a % b;
		a = b;
		b = t;
	}
	return a;
}

/* Without CAP_PERFMON more instructions than the kernel visits, which does not count. */
SEC("syscall")
int ok_population_count_by_loop(struct input *ctx)
{
	__u64 x = ctx->a;
	int n = 0;
	for (int i = 0; i < 64 && x; i++) {
		x &= x - 1;
		n++;
	}
	return n;
}

/* Without CAP_PERFMON more instructions than the kernel visits, which does not count. */
SEC("syscall")
int ok_fibonacci(struct input *ctx)
{
	__u64 a = 0, b = 1;
	__u32 n = ctx->n & 63;
	for (__u32 i = 0; i < n; i++) {
		__u64 t = a + b;
		a = b;
		b = t;
	}
	return a;
}

SEC("syscall")
int ok_not_equal_exit(struct input *ctx)
{
	__u64 sum = 0;
	__u32 n = ctx->n & 31;
	for (__u32 i = 0; i != n; i++)
		sum += big[i];
	return sum;
}

SEC("syscall")
int ok_while_with_counter_behind(struct input *ctx)
{
	__u32 i = 0;
	while (1) {
		if (i >= 100)
			break;
		if (big[i] == ctx->n)
			return i;
		i++;
	}
	return -1;
}

SEC("syscall")
int ok_do_while(struct input *ctx)
{
	__u32 i = 0, sum = 0;
	do {
		sum += big[i];
		i += 3;
	} while (i < 2000);
	return sum;
}

SEC("syscall")
int ok_lookups_in_a_loop(struct input *ctx)
{
	__u64 found = 0;
	for (__u64 i = 0; i < 20; i++) {
		__u64 key = ctx->a + i;
		__u64 *v = bpf_map_lookup_elem(&counts, &key);
		if (!v)
			continue;
		found += *v;
		*v = 0;
	}
	return found;
}

SEC("syscall")
int ok_updates_in_a_nested_loop(struct input *ctx)
{
	for (__u64 i = 0; i < 6; i++)
		for (__u64 j = 0; j < 6; j++) {
			__u64 key = i << 8 | j, value = ctx->a * i + j;
			bpf_map_update_elem(&counts, &key, &value, BPF_ANY);
		}
	return 0;
}

SEC("syscall")
int ok_record_filled_by_a_loop(struct input *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&events, 128, 0);
	if (!record)
		return 0;
	for (int i = 0; i < 16; i++)
		record[i] = ctx->a + i;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("syscall")
int ok_records_in_a_loop(struct input *ctx)
{
	for (int i = 0; i < 10; i++) {
		__u64 *record = bpf_ringbuf_reserve(&events, 16, 0);
		if (!record)
			break;
		record[0] = i;
		record[1] = big[i];
		if (record[1] == 0) {
			bpf_ringbuf_discard(record, 0);
			continue;
		}
		bpf_ringbuf_submit(record, 0);
	}
	return 0;
}

SEC("syscall")
int ok_histogram(struct input *ctx)
{
	__u32 slots[16] = {};
	struct buffer *b = get(ctx->n);
	if (!b)
		return 0;
	for (int i = 0; i < SIZE; i++)
		slots[b->data[i] & 15]++;
	return slots[0] + slots[ctx->m & 15];
}

SEC("syscall")
int ok_ring_of_bytes(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	if (!b)
		return 0;
	__u32 at = b->used;
	for (int i = 0; i < 8; i++) {
		b->data[at % SIZE] = ctx->bytes[0] + i;
		at++;
	}
	b->used = at % SIZE;
	return 0;
}

SEC("syscall")
int ok_state_machine(struct input *ctx)
{
	enum { START, WORD, NUMBER, SPACE, END } state = START;
	__u32 words = 0, numbers = 0;
	for (int i = 0; i < 100; i++) {
		__u8 c = text[i];
		switch (state) {
		case START:
		case SPACE:
			if (c >= 'a' && c <= 'z') {
				state = WORD;
				words++;
			} else if (c >= '0' && c <= '9') {
				state = NUMBER;
				numbers++;
			} else if (!c)
				state = END;
			break;
		case WORD:
			if (c == ' ')
				state = SPACE;
			else if (!c)
				state = END;
			break;
		case NUMBER:
			if (c < '0' || c > '9')
				state = c ? SPACE : END;
			break;
		case END:
			return words << 8 | numbers;
		}
	}
	return -1;
}

SEC("syscall")
int ok_switch_by_table(struct input *ctx)
{
	switch (ctx->n) {
	case 0: return 7;
	case 1: return 9;
	case 2: return 8;
	case 3: return 100;
	case 4: return 3;
	case 5: return 77;
	case 6: return 12;
	case 7: return 1;
	default: return 0;
	}
}

SEC("syscall")
int ok_switch_with_bodies(struct input *ctx)
{
	switch (ctx->n & 7) {
	case 0: result = ctx->a; break;
	case 1: result += ctx->b; break;
	case 2: result -= ctx->c; break;
	case 3: result ^= ctx->d; break;
	case 4: result <<= 1; break;
	case 5: result >>= 1; break;
	case 6: result = 0; break;
	case 7: result = ~result; break;
	}
	return 0;
}

/* Without CAP_PERFMON more instructions than the kernel visits, which does not count. */
SEC("syscall")
int ok_linked_list_in_an_array(struct input *ctx)
{
	__u32 at = ctx->n, length = 0;
	for (int i = 0; i < 100; i++) {
		if (at >= 2048)
			break;
		at = big[at];
		length++;
	}
	return length;
}

SEC("syscall")
int ok_tree_in_an_array(struct input *ctx)
{
	__u32 at = 1, depth = 0;
	while (at < 1024 && depth < 10) {
		at = at * 2 + (ctx->n > big[at]);
		depth++;
	}
	return at;
}

SEC("syscall")
int ok_unrolled(struct input *ctx)
{
	__u64 sum = 0;
#pragma clang loop unroll(full)
	for (int i = 0; i < 32; i++)
		if (big[i] & 1)
			sum += big[i + 32];
	return sum;
}

/* More instructions than the kernel visits. */
SEC("syscall")
int ours_longest_run(struct input *ctx)
{
	__u32 best = 0, run = 0;
	__u8 previous = 0;
	for (int i = 0; i < 256; i++) {
		if (text[i] == previous)
			run++;
		else
			run = 1;
		previous = text[i];
		if (run > best)
			best = run;
	}
	return best;
}

SEC("syscall")
int ok_find_needle(struct input *ctx)
{
	for (int i = 0; i < 60; i++) {
		int k;
		for (k = 0; k < 4; k++)
			if (text[i + k] != text[200 + k])
				break;
		if (k == 4)
			return i;
	}
	return -1;
}

SEC("syscall")
int ok_reverse(struct input *ctx)
{
	for (int i = 0, j = 255; i < j; i++, j--) {
		__u8 t = text[i];
		text[i] = text[j];
		text[j] = t;
	}
	return 0;
}

SEC("syscall")
int ok_sieve(struct input *ctx)
{
	__u32 primes = 0;
	memset(text, 1, 100);
	for (int i = 2; i < 100; i++) {
		if (!text[i])
			continue;
		primes++;
		for (int j = 2 * i; j < 100; j += i)
			text[j] = 0;
	}
	return primes;
}

SEC("syscall")
int ok_varint(struct input *ctx)
{
	__u64 value = 0;
	for (int i = 0; i < 10; i++) {
		__u8 c = text[i];
		value |= (__u64)(c & 0x7f) << (7 * i);
		if (!(c & 0x80))
			break;
	}
	return value;
}

SEC("syscall")
int ok_hex(struct input *ctx)
{
	static const char digits[] = "0123456789abcdef";
	char out[16];
	for (int i = 0; i < 8; i++) {
		out[2 * i] = digits[ctx->n >> (4 * i) & 15];
		out[2 * i + 1] = digits[ctx->m >> (4 * i) & 15];
	}
	return out[ctx->m & 15];
}

/* More instructions than the kernel visits. */
SEC("syscall")
int ours_two_counters(struct input *ctx)
{
	__u32 evens = 0, odds = 0;
	for (int i = 0; i < 50; i++) {
		if (big[i] & 1) {
			if (odds < 16)
				big[1000 + odds++] = big[i];
		} else {
			if (evens < 16)
				big[1100 + evens++] = big[i];
		}
	}
	return odds - evens;
}

SEC("syscall")
int bad_infinite_loop__nothing_changes(struct input *ctx)
{
	__u32 n = ctx->n;
	while (n) {
		barrier_var(n);
		asm volatile("");
	}
	return 0;
}

SEC("syscall")
int bad_out_of_bounds__loop_by_one(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i <= 2048; i++)
		sum += *(volatile __u32 *)&big[i];
	return sum;
}

SEC("syscall")
int bad_out_of_bounds__two_at_a_time(struct input *ctx)
{
	__u64 sum = 0;
	for (int i = 0; i < 2048; i++)
		sum += *(volatile __u64 *)&big[i];
	return sum;
}

SEC("syscall")
int bad_out_of_bounds__records_of_their_own_length(struct input *ctx)
{
	struct buffer *b = get(ctx->n);
	__u32 at = 0;
	if (!b)
		return 0;
	for (int i = 0; i < 16; i++) {
		__u32 length = *(volatile __u8 *)&b->data[at];
		at += length + 1;
	}
	return at;
}

SEC("syscall")
int bad_stack_bounds__loop(struct input *ctx)
{
	volatile __u8 a[16];
	for (int i = 0; i < 16; i++)
		a[i] = 0;
	__u32 n = ctx->n;
	if (n > 16)
		return 0;
	return a[n];
}
