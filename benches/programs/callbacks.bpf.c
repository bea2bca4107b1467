/* Walks a map and a buffer by callbacks, one within the other, and keeps the four greatest. */
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u64);
} few SEC(".maps");

struct top {
	__u64 values[4];
	__u64 sum;
	__u32 seen;
	__u32 round;
};

static long keep(struct top *top, __u64 value)
{
	for (int i = 0; i < 4; i++)
		if (value > top->values[i]) {
			__u64 t = top->values[i];
			top->values[i] = value;
			value = t;
		}
	return 0;
}

static long of_map(__attribute__((unused)) void *map, const __u64 *key, __u64 *value, struct top *top)
{
	keep(top, *value ^ *key);
	top->seen++;
	return top->seen > 1000;
}

static long of_word(__u64 index, struct top *top)
{
	struct buffer *b = buffer(top->round & 15);
	if (!b || index >= WORDS)
		return 1;
	keep(top, b->words[index]);
	top->sum += b->words[index];
	return 0;
}

static long of_buffer(__u64 index, struct top *top)
{
	top->round = index;
	bpf_loop(8, of_word, top, 0);
	return 0;
}

PROGRAM(callbacks)
{
	struct top top = {};
	bpf_loop(4, of_buffer, &top, 0);
	top.seen += ctx->pool;
	bpf_for_each_map_elem(&few, of_map, &top, 0);
	for (int i = 0; i < 4; i++)
		results[i] = top.values[i];
	results[4] = top.sum;
	return top.seen;
}
