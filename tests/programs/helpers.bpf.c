/* Calls helpers on made-up contexts of the load hook, whose size says that it is meant and whose tag says which of them; what they
 * said is in `told`. Other calls do nothing. */
#include "duckbpf.h"

LICENSE("MIT");

#define MEANT 424242

enum part { MAPS, CALLBACKS, RING, BYTES, ENGINE, BLOCK, TAIL };

struct told {
	__s64 deleted;
	__s64 deleted_again;
	__s64 pushed;
	__s64 pushed_without_room;
	__s64 peeked;
	__s64 popped;
	__s64 seen;
	__u64 own_shard;
	__u64 is_own_shard;
	__s64 walked;
	__u64 sum_of_entries;
	__s64 looped;
	__u64 sum_of_rounds;
	__u64 rounds_within_budget;
	__u64 waiting_bytes;
	__s64 same_name;
	__s64 other_name;
	__s64 copied;
	__u64 filled;
	__u64 crc32c;
	__u64 wyhash;
	__u64 xxh3;
	__u64 murmur64;
	__u64 mul128_fold;
	__u64 database_id;
	__u64 eviction_queues;
	__u64 kept_for_block;
	__s64 block_deleted;
	__u64 kept_after_all;
	__u64 tail_called;
};

struct told told;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u64);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, __u32);
} work SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 16);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} shards SEC(".maps");

struct event {
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event);
} events SEC(".maps");

struct {
	__uint(type, DUCKBPF_MAP_TYPE_BLOCK_STORAGE);
	__uint(max_entries, 16);
	__type(value, __u64);
} blocks SEC(".maps");

SEC("?duckdb/load")
__u64 onward(struct duckbpf_load_ctx *ctx)
{
	told.tail_called = ctx->block_id;
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, __u64 (void *));
} stages SEC(".maps") = {.values = {[1] = (void *)&onward}};

static __always_inline void maps(void)
{
	__u64 key = 7, value = 70, *mine, *same;
	__u32 one = 1, item = 5;

	bpf_map_update_elem(&table, &key, &value, BPF_ANY);
	told.deleted = bpf_map_delete_elem(&table, &key);
	told.deleted_again = bpf_map_delete_elem(&table, &key);

	told.pushed = bpf_map_push_elem(&work, &item, BPF_ANY);
	item = 6;
	bpf_map_push_elem(&work, &item, BPF_ANY);
	told.pushed_without_room = bpf_map_push_elem(&work, &item, BPF_ANY);
	item = 0;
	bpf_map_peek_elem(&work, &item);
	told.peeked = item;
	item = 0;
	bpf_map_pop_elem(&work, &item);
	told.popped = item;

	bpf_map_push_elem(&seen, &value, BPF_ANY);
	told.seen = bpf_map_peek_elem(&seen, &value);

	mine = bpf_map_lookup_elem(&shards, &one);
	same = bpf_map_lookup_percpu_elem(&shards, &one, bpf_get_smp_processor_id());
	if (mine && same) {
		*mine += 3;
		told.own_shard = *same;
	}
	told.is_own_shard = bpf_get_smp_processor_id() == duckbpf_thread_index();
}

static long add(void *map, const __u64 *key, __u64 *value, __u64 *sum)
{
	(void)map;
	*sum += *key + *value;
	return 0;
}

static long stop_at_five(__u64 index, __u64 *sum)
{
	*sum += index;
	return index == 5;
}

static __always_inline void callbacks(void)
{
	__u64 sum = 0, number = 6, rounds = 0, key;

	bpf_for(key, 1, 3) {
		__u64 at = key, value = 10 * key;

		bpf_map_update_elem(&table, &at, &value, BPF_ANY);
	}
	told.walked = bpf_for_each_map_elem(&table, add, &sum, 0);
	told.sum_of_entries = sum;
	sum = 0;
	told.looped = bpf_loop(10, stop_at_five, &sum, 0);
	told.sum_of_rounds = sum;

	loop_budget(20);
	while (number != 1 && can_loop) {
		number = number & 1 ? 3 * number + 1 : number / 2;
		rounds++;
	}
	told.rounds_within_budget = rounds;
}

static __always_inline void ring(void)
{
	struct event last = {.number = 2}, *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (event) {
		event->number = 0;
		bpf_ringbuf_discard(event, 0);
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->number = 1;
		bpf_ringbuf_submit(event, 0);
	}
	bpf_ringbuf_output(&events, &last, sizeof(last), 0);
	told.waiting_bytes = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
}

static __always_inline void bytes(__u64 number)
{
	static const char digits[] = "123456789", scan[] = "scan", sort[] = "sort";
	char name[8] = "scan";
	__u64 copy = 0, filled = 0;

	told.same_name = bpf_strncmp(name, sizeof(name), scan);
	told.other_name = bpf_strncmp(name, sizeof(name), sort);
	duckbpf_memcpy(&copy, &number, sizeof(copy));
	told.copied = duckbpf_memcmp(&copy, &number, sizeof(copy));
	duckbpf_memset(&filled, 0xab, sizeof(filled));
	told.filled = filled;
	told.crc32c = duckbpf_crc32c(digits, sizeof(digits) - 1, 0);
	told.wyhash = duckbpf_wyhash(digits, sizeof(digits) - 1, 0);
	told.xxh3 = duckbpf_xxh3(digits, sizeof(digits) - 1, 0);
	told.murmur64 = duckbpf_murmur64(number);
	told.mul128_fold = duckbpf_mul128_fold(number, ~number);
}

static __always_inline void engine(void)
{
	__u64 queued = 0;
	__u32 queue;

	told.database_id = duckbpf_database_id();
	bpf_for(queue, 0, 8) {
		queued += duckbpf_eviction_queue_length(queue);
	}
	told.eviction_queues = queued;
}

static __always_inline void block(struct duckbpf_load_ctx *ctx)
{
	__u64 first = 5, *kept = duckbpf_block_storage_get(&blocks, ctx, &first, BPF_LOCAL_STORAGE_GET_F_CREATE);

	told.kept_for_block = kept ? *kept : 0;
	told.block_deleted = duckbpf_block_storage_delete(&blocks, ctx);
	told.kept_after_all = duckbpf_block_storage_get(&blocks, ctx, 0, 0) != 0;
}

SEC("duckdb/load")
__u64 helpers(struct duckbpf_load_ctx *ctx)
{
	if (ctx->size != MEANT)
		return 0;
	switch (ctx->tag) {
	case MAPS:
		maps();
		break;
	case CALLBACKS:
		callbacks();
		break;
	case RING:
		ring();
		break;
	case BYTES:
		bytes(ctx->block_id);
		break;
	case ENGINE:
		engine();
		break;
	case BLOCK:
		block(ctx);
		break;
	case TAIL:
		bpf_tail_call(ctx, &stages, 1);
		break;
	}
	return 0;
}
