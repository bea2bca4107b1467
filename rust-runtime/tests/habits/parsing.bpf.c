/* Parsers, state machines and tables over values of maps, as network and tracing programs have them. */
#include "kernel.h"

#define SIZE 256
struct packet {
	__u32 length;
	__u32 flags;
	__u8 data[SIZE];
};
struct flow {
	__u32 from, to;
	__u16 source, target;
	__u8 protocol, pad[3];
};
struct counters {
	__u64 packets, bytes, last;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow);
	__type(value, struct counters);
} flows SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct packet);
} scratch SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
};
struct inner inner_map SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {.values = {&inner_map}};

static __always_inline struct packet *packet(__u32 index)
{
	return bpf_map_lookup_elem(&packets, &index);
}

SEC("syscall")
int ok_tlv(struct input *ctx)
{
	struct packet *p = packet(0);
	__u32 at = 0, found = 0;
	if (!p)
		return 0;
	for (int i = 0; i < 16; i++) {
		if (at > SIZE - 2)
			break;
		__u8 type = p->data[at], length = p->data[at + 1];
		if (type == 0)
			break;
		if (type == 7)
			found = length;
		at += 2 + length;
	}
	return found;
}

SEC("syscall")
int bad_out_of_bounds__tlv(struct input *ctx)
{
	struct packet *p = packet(0);
	__u32 at = 0, found = 0;
	if (!p)
		return 0;
	for (int i = 0; i < 16; i++) {
		if (at > SIZE - 1)
			break;
		__u8 type = p->data[at], length = p->data[at + 1];
		if (type == 0)
			break;
		if (type == 7)
			found = length;
		at += 2 + length;
	}
	return found;
}

SEC("syscall")
int ok_headers(struct input *ctx)
{
	struct packet *p = packet(1);
	struct flow key = {};
	if (!p || p->length > SIZE)
		return 0;
	__u32 words = p->data[0] & 15;
	if (words < 5)
		return 0;
	__u32 at = words * 4;
	key.protocol = p->data[9];
	memcpy(&key.from, p->data + 12, 4);
	memcpy(&key.to, p->data + 16, 4);
	if (key.protocol == 6 || key.protocol == 17) {
		if (at + 4 > SIZE)
			return 0;
		key.source = p->data[at] << 8 | p->data[at + 1];
		key.target = p->data[at + 2] << 8 | p->data[at + 3];
	}
	struct counters *c = bpf_map_lookup_elem(&flows, &key);
	if (c) {
		__sync_fetch_and_add(&c->packets, 1);
		__sync_fetch_and_add(&c->bytes, p->length);
	} else {
		struct counters first = {1, p->length, bpf_ktime_get_ns()};
		bpf_map_update_elem(&flows, &key, &first, BPF_ANY);
	}
	return 1;
}

SEC("syscall")
int ok_checksum(struct input *ctx)
{
	struct packet *p = packet(2);
	__u32 sum = 0;
	if (!p)
		return 0;
	for (int i = 0; i + 1 < SIZE; i += 2)
		sum += p->data[i] << 8 | p->data[i + 1];
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	return (__u16)~sum;
}

SEC("syscall")
int ok_checksum_to_a_length(struct input *ctx)
{
	struct packet *p = packet(2);
	__u32 sum = 0, length;
	if (!p)
		return 0;
	length = p->length;
	if (length > SIZE)
		length = SIZE;
	for (__u32 i = 0; i < length; i++)
		sum += p->data[i];
	return sum & 0xffff;
}

SEC("syscall")
int ok_varint(struct input *ctx)
{
	struct packet *p = packet(3);
	__u64 value = 0;
	__u32 at = ctx->n & 127;
	if (!p)
		return 0;
	for (int i = 0; i < 10; i++) {
		__u8 byte = p->data[at + i];
		value |= (__u64)(byte & 127) << (7 * i);
		if (!(byte & 128))
			break;
	}
	return value != 0;
}

/* The kernel knows nothing of shifts by a register. */
SEC("syscall")
int ours_shift_by_a_field(struct input *ctx)
{
	struct packet *p = packet(ctx->n & 7);
	if (!p)
		return 0;
	__u32 index = (1u << (p->flags & 7)) - 1;
	return p->data[index];
}

/* The kernel takes an offset that may be negative for unbounded, whatever is added to it later. */
SEC("syscall")
int ours_signed_index(struct input *ctx)
{
	struct packet *p = packet(0);
	__s64 at = ctx->signed_number;
	if (!p)
		return 0;
	if (at < -8 || at >= 8)
		return 0;
	return p->data[16 + at];
}

SEC("syscall")
int bad_out_of_bounds__signed_index(struct input *ctx)
{
	struct packet *p = packet(0);
	__s64 at = ctx->signed_number;
	if (!p)
		return 0;
	if (at < -18 || at >= 8)
		return 0;
	return ((__u8 *)p)[16 + at];
}

SEC("syscall")
int ok_table_in_rodata(struct input *ctx)
{
	static const __u16 table[32] = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89};
	return table[ctx->n % 32] + table[ctx->a & 31];
}

SEC("syscall")
int bad_out_of_bounds__table_in_rodata(struct input *ctx)
{
	static const __u16 table[32] = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89};
	return table[ctx->n & 63];
}

SEC("syscall")
int ok_record_of_a_packet(struct input *ctx)
{
	struct packet *p = packet(4);
	if (!p)
		return 0;
	struct flow *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	if (!r)
		return 0;
	memset(r, 0, sizeof(*r));
	for (int i = 0; i < 4; i++)
		((__u8 *)&r->from)[i] = p->data[i];
	r->protocol = p->data[9];
	if (r->protocol > 100)
		bpf_ringbuf_discard(r, 0);
	else
		bpf_ringbuf_submit(r, 0);
	return 1;
}

SEC("syscall")
int ok_output_of_a_length(struct input *ctx)
{
	struct packet *p = packet(4);
	if (!p)
		return 0;
	__u32 length = p->length;
	if (length > SIZE)
		return 0;
	return bpf_ringbuf_output(&events, p->data, length, 0);
}

SEC("syscall")
int bad_out_of_bounds__output_of_a_length(struct input *ctx)
{
	struct packet *p = packet(4);
	if (!p)
		return 0;
	__u32 length = p->length;
	if (length > SIZE + 1)
		return 0;
	return bpf_ringbuf_output(&events, p->data, length, 0);
}

SEC("syscall")
int ok_output_from_an_offset(struct input *ctx)
{
	struct packet *p = packet(4);
	if (!p)
		return 0;
	__u32 at = ctx->n & 127, length = ctx->m & 127;
	return bpf_ringbuf_output(&events, p->data + at, length + 1, 0);
}

/* That i is below the length says nothing of length - 1 - i to either. */
SEC("syscall")
int bad_pointer_offset__reversed_copy(struct input *ctx)
{
	__u32 zero = 0;
	struct packet *p = packet(5), *s = bpf_map_lookup_elem(&scratch, &zero);
	if (!p || !s)
		return 0;
	__u32 length = p->length & (SIZE - 1);
	for (__u32 i = 0; i < length; i++)
		s->data[i] = p->data[length - 1 - i];
	return bpf_map_update_elem(&packets, &zero, s, BPF_ANY);
}

SEC("syscall")
int ok_inner_map(struct input *ctx)
{
	__u32 index = ctx->n, at = 3;
	void *map = bpf_map_lookup_elem(&outer, &index);
	if (!map)
		return 0;
	__u64 *value = bpf_map_lookup_elem(map, &at);
	if (!value)
		return 0;
	*value += 1;
	return 1;
}

/* The kernel knows that an array has an element with this number. */
SEC("syscall")
int theirs_maybe_null__inner_map(struct input *ctx)
{
	__u32 index = ctx->n, at = 3;
	void *map = bpf_map_lookup_elem(&outer, &index);
	if (!map)
		return 0;
	__u64 *value = bpf_map_lookup_elem(map, &at);
	*value += 1;
	return 1;
}

struct search {
	__u32 wanted, at, found;
};
static int look(__u32 i, struct search *search)
{
	struct packet *p = packet(i & 7);
	if (!p)
		return 1;
	if (p->flags == search->wanted) {
		search->found = 1;
		search->at = i;
		return 1;
	}
	return 0;
}

SEC("syscall")
int ok_loop_with_a_search(struct input *ctx)
{
	struct search search = {.wanted = ctx->n};
	bpf_loop(8, look, &search, 0);
	return search.found ? search.at : -1;
}

static int look_at(void *map, __u32 *key, struct packet *p, struct search *search)
{
	if (p->flags == search->wanted && *key < 8)
		search->found++;
	for (int i = 0; i < 32; i++)
		search->at += p->data[i];
	return 0;
}

SEC("syscall")
int ok_each_packet(struct input *ctx)
{
	struct search search = {.wanted = ctx->n};
	bpf_for_each_map_elem(&packets, look_at, &search, 0);
	return search.found;
}

static __noinline __u32 parse(struct packet *p, __u32 at)
{
	if (!p || at >= SIZE - 4)
		return 0;
	return p->data[at] | p->data[at + 1] << 8;
}

SEC("syscall")
int ok_parse_in_a_function(struct input *ctx)
{
	struct packet *p = packet(6);
	__u32 sum = 0;
	for (int i = 0; i < 10; i++)
		sum += parse(p, i * ctx->m);
	return sum;
}

static __noinline int fill(__u8 *buffer, __u32 n)
{
	for (__u32 i = 0; i < n && i < 32; i++)
		buffer[i] = i;
	return n;
}

SEC("syscall")
int ok_buffer_of_the_caller(struct input *ctx)
{
	__u8 buffer[32] = {};
	fill(buffer, ctx->n);
	return buffer[ctx->m & 31];
}

SEC("syscall")
int bad_stack_bounds__buffer_of_the_caller(struct input *ctx)
{
	__u8 buffer[24] = {};
	fill(buffer, ctx->n);
	return buffer[ctx->m & 15];
}

SEC("syscall")
int ok_byte_order(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	__u16 length = __builtin_bswap16(*(__u16 *)(p->data + 2));
	if (length < 8 || length > SIZE)
		return 0;
	return p->data[length - 1] + __builtin_bswap32(*(__u32 *)(p->data + 4)) % 7;
}

SEC("syscall")
int ok_hash_of_a_key(struct input *ctx)
{
	struct packet *p = packet(7);
	__u32 hash = 2166136261u;
	if (!p)
		return 0;
	for (int i = 0; i < 64; i++)
		hash = (hash ^ p->data[i]) * 16777619;
	return p->data[hash % SIZE] + p->data[hash >> 24];
}

SEC("syscall")
int ok_longest_prefix(struct input *ctx)
{
	struct packet *p = packet(7);
	__u32 address = ctx->n;
	if (!p)
		return 0;
	for (int length = 32; length > 24; length--) {
		__u32 masked = length ? address >> (32 - length) : 0;
		if (p->data[masked & 255] == length)
			return length;
	}
	return 0;
}

SEC("syscall")
int ok_insertion_into_a_table(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	__u8 x = ctx->n;
	int i;
	for (i = 30; i >= 0; i--) {
		if (p->data[i] <= x)
			break;
		p->data[i + 1] = p->data[i];
	}
	p->data[i + 1] = x;
	return i;
}

SEC("syscall")
int ok_two_ends(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	__u32 low = 0, high = SIZE - 1;
	for (int i = 0; i < SIZE / 2; i++) {
		if (low >= high || high >= SIZE)
			break;
		__u8 t = p->data[low];
		p->data[low] = p->data[high];
		p->data[high] = t;
		low++;
		high--;
	}
	return low;
}

SEC("syscall")
int ok_cursor_pointer(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	__u8 *at = p->data, *end = p->data + SIZE;
	__u32 sum = 0;
	while (at < end) {
		sum += *at;
		at += 4;
	}
	return sum;
}

SEC("syscall")
int ok_retry_an_exchange(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	for (int i = 0; i < 8; i++) {
		__u32 old = p->flags;
		if (__sync_val_compare_and_swap(&p->flags, old, old + 1) == old)
			return 1;
	}
	return 0;
}

SEC("syscall")
int ok_bitmap_of_slots(struct input *ctx)
{
	struct packet *p = packet(7);
	if (!p)
		return 0;
	__u32 used = p->flags;
	for (int i = 0; i < 32; i++) {
		if (used & 1u << i)
			continue;
		p->flags |= 1u << i;
		p->data[i * 8] = ctx->n;
		return i;
	}
	return -1;
}

SEC("syscall")
int bad_pointer_leak__address_in_a_record(struct input *ctx)
{
	struct packet *p = packet(7);
	__u64 *r = bpf_ringbuf_reserve(&events, 8, 0);
	if (!r)
		return 0;
	*r = (__u64)p;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

SEC("syscall")
int bad_unreleased__on_one_way(struct input *ctx)
{
	__u64 *r = bpf_ringbuf_reserve(&events, 8, 0);
	if (!r)
		return 0;
	struct packet *p = packet(7);
	if (!p)
		return 0;
	*r = p->length;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

SEC("syscall")
int ok_string_compare(struct input *ctx)
{
	static const char word[8] = "SELECT ";
	struct packet *p = packet(7);
	if (!p)
		return 0;
	for (int i = 0; i < 7; i++)
		if ((p->data[i] & 0xdf) != (word[i] & 0xdf))
			return 0;
	return 1;
}

SEC("syscall")
int ok_decimal(struct input *ctx)
{
	struct packet *p = packet(7);
	__u64 number = 0;
	if (!p)
		return 0;
	for (int i = 0; i < 20; i++) {
		__u8 c = p->data[i];
		if (c < '0' || c > '9')
			break;
		number = number * 10 + (c - '0');
	}
	return number;
}

SEC("syscall")
int ok_digits(struct input *ctx)
{
	char text[24] = {};
	__u64 number = ctx->a;
	int at = 23;
	do {
		text[--at] = '0' + number % 10;
		number /= 10;
	} while (number && at > 0);
	return text[at & 15];
}

SEC("syscall")
int ok_matrix(struct input *ctx)
{
	struct packet *p = packet(7);
	__u32 sum = 0;
	if (!p)
		return 0;
	for (int row = 0; row < 16; row++)
		for (int column = 0; column < 16; column++)
			if (row != column)
				sum += p->data[row * 16 + column];
	return sum;
}

SEC("syscall")
int bad_out_of_bounds__matrix(struct input *ctx)
{
	struct packet *p = packet(7);
	__u32 sum = 0;
	if (!p)
		return 0;
	for (int row = 0; row < 16; row++)
		for (int column = 0; column <= 16; column++)
			if (row != column)
				sum += p->data[row * 16 + column];
	return sum;
}
