/* Where reads wait, scans read ahead; where the data is in the system's cache they do not. */
#include "duckbpf.h"

LICENSE("MIT");

/* Reads that wait longer than this, on average, make scans read ahead. */
const volatile __u64 slow_us = 400;
/* Row groups ahead of a scan, 0: as many as DuckDB grants memory for. */
const volatile __u32 depth = 0;
/* KiB of one read, 0: DuckDB's 32 MiB. */
const volatile __u32 run_kib = 0;

/* Nanoseconds that a read waits before its bytes come, a moving average. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} read_wait SEC(".maps");

/* Longer reads say more of the bandwidth than of the wait. */
#define LONGEST (1 << 20)
/* Bytes a nanosecond that the system's cache gives, roughly. */
#define CACHE_SPEED 4
/* One that waited for a processor is not to be taken for slow storage. */
#define MOST_NS 4000000

SEC("duckdb/file_read")
__u64 measure(struct duckbpf_file_read_ctx *ctx)
{
	__u32 zero = 0;
	__u64 *average, wait, copy = ctx->bytes / CACHE_SPEED;

	if (ctx->bytes > LONGEST)
		return 0;
	average = bpf_map_lookup_elem(&read_wait, &zero);
	if (!average)
		return 0;
	wait = ctx->duration_ns > copy ? ctx->duration_ns - copy : 0;
	if (wait > MOST_NS)
		wait = MOST_NS;
	/* Two threads may lose a sample: it is an average. */
	*average = *average - *average / 16 + wait / 16;
	return 0;
}

SEC("duckdb/prefetch")
__u64 decide(struct duckbpf_prefetch_ctx *ctx)
{
	__u32 zero = 0;
	__u64 *average = bpf_map_lookup_elem(&read_wait, &zero);

	if (!average || (ctx->stock && ctx->site == DUCKBPF_PREFETCH_FILE))
		return 0;
	if (*average < slow_us * 1000)
		return ctx->site == DUCKBPF_PREFETCH_FILE ? DUCKBPF_PREFETCH(0, 0, 0) : 0;
	return DUCKBPF_PREFETCH(1, depth, run_kib);
}
