/* What the programs of this folder share: a buffer in a map, and places for results. */
#ifndef COMMON_H
#define COMMON_H

#include "duckbpf.h"

LICENSE("MIT");

#define BYTES 256
#define WORDS 64

struct buffer {
	__u32 used;
	__u32 kind;
	__u8 bytes[BYTES];
	__u64 words[WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct buffer);
} buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} counts SEC(".maps");

__u64 results[16];

static __always_inline struct buffer *buffer(__u32 number)
{
	return bpf_map_lookup_elem(&buffers, &number);
}

static __always_inline __u64 rotate(__u64 x, int by)
{
	return x << by | x >> (64 - by);
}

#define PROGRAM(name)                                                                                                          \
	SEC("duckdb/schedule_task")                                                                                            \
	__u64 name(struct duckbpf_schedule_task_ctx *ctx)

#endif
