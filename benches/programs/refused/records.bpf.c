/* Reads records of their own length from a buffer, checks them, adds up by kind and reports what is wrong. */
#include "common.h"

struct report {
	__u32 at;
	__u32 kind;
	__u64 sum;
	__u8 head[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8192);
	__type(value, struct report);
} reports SEC(".maps");

PROGRAM(records)
{
	struct buffer *b = buffer(ctx->pool);
	__u64 sums[8] = {};
	__u32 at = 0, good = 0;
	if (!b)
		return 0;
	for (int n = 0; n < 20; n++) {
		__u32 kind, length, sum = 0;
		if (at > BYTES - 4)
			break;
		kind = b->bytes[at] & 7;
		length = b->bytes[at + 1] & 31;
		for (__u32 i = 0; i < 32; i++) {
			if (i >= length || at + 3 + i >= BYTES)
				break;
			sum = (sum << 1 | sum >> 15) ^ b->bytes[at + 3 + i];
		}
		if ((sum & 0xff) == b->bytes[at + 2]) {
			sums[kind] += length;
			good++;
		} else {
			struct report *r = bpf_ringbuf_reserve(&reports, sizeof(*r), 0);
			if (r) {
				r->at = at;
				r->kind = kind;
				r->sum = sum;
				for (int i = 0; i < 16; i++)
					r->head[i] = b->bytes[(at + i) & 255];
				bpf_ringbuf_submit(r, 0);
			}
		}
		at += length + 3;
	}
	for (__u64 kind = 0; kind < 8; kind++) {
		__u64 *count = bpf_map_lookup_elem(&counts, &kind);
		if (count)
			__sync_fetch_and_add(count, sums[kind]);
		else
			bpf_map_update_elem(&counts, &kind, &sums[kind], BPF_ANY);
	}
	return good;
}
