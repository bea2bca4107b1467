/* Counts by the query's tag, and tells its text. */
#include "duckbpf.h"

LICENSE("MIT");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} grown SEC(".maps");

struct text {
	char text[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct text);
} texts SEC(".maps");

SEC("duckdb/allocate_new_block")
__u64 grow(struct duckbpf_allocate_new_block_ctx *ctx)
{
	__u32 tag = ctx->origin.tag;
	__u64 one = 1, *n = bpf_map_lookup_elem(&grown, &tag);
	struct text text;

	/* No event at all where context and helper do not agree. */
	if (tag != duckbpf_query_tag())
		return 0;
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		bpf_map_update_elem(&grown, &tag, &one, BPF_NOEXIST);
	duckbpf_tag_text(tag, text.text, sizeof(text.text));
	bpf_ringbuf_output(&texts, &text, sizeof(text), 0);
	return 0;
}
