/* Maps of many types, for what SQL shows of them and does to them. */
#include "duckbpf.h"

LICENSE("MIT");

enum level { LOW = 1, HIGH = 7 };

struct limit {
	__u64 bytes;
	__s32 change;
	enum level level;
	char name[8];
	__u16 pair[2];
	_Bool strict;
};

const volatile __u32 factor = 2;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct limit);
} limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u64);
} pages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, __u32);
} work SEC(".maps");

struct counts {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

struct counts day SEC(".maps");
struct counts night SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct counts);
} shifts SEC(".maps");

struct event {
	__u64 query_id;
	__u64 factor;
	char what[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event);
} events SEC(".maps");

SEC("duckdb/allocate_new_block")
__u64 grow(struct duckbpf_allocate_new_block_ctx *ctx)
{
	struct event event = { .query_id = ctx->origin.query_id, .factor = factor, .what = "get" };
	__u32 zero = 0, item = 0;
	void *counts;
	__u64 size = ctx->min_size, one = 1, *n = bpf_map_lookup_elem(&totals, &zero);

	if (n)
		__sync_fetch_and_add(n, factor);
	n = bpf_map_lookup_elem(&pages, &size);
	if (n)
		*n += 1;
	else
		bpf_map_update_elem(&pages, &size, &one, BPF_ANY);
	if (bpf_map_pop_elem(&work, &item) == 0)
		bpf_printk("item %u of size %llu", item, size);
	counts = bpf_map_lookup_elem(&shifts, &zero);
	if (counts) {
		n = bpf_map_lookup_elem(counts, &zero);
		if (n)
			__sync_fetch_and_add(n, 1);
	}
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}
