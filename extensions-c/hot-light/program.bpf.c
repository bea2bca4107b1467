/* Strings of tables that are scanned often are written as they are, those of others as tightly as DuckDB can. */
#include "duckbpf.h"

LICENSE("MIT");

/* A table is hot from so many scans on. */
const volatile __u64 hot_scans = 20;
/* Bytes that a column of a row group must take, or it is left to stock. */
const volatile __u64 least_bytes = 65536;

/* common/types.hpp, common/enums/compression_type.hpp */
#define VARCHAR 200
#define UNCOMPRESSED 1
#define ZSTD 12

/* Scans of each table. The key is the number of 'schema.table'. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64);
	__type(value, __u64);
} table_scans SEC(".maps");

SEC("duckdb/scan_begin")
__u64 count(struct duckbpf_scan_begin_ctx *ctx)
{
	__u64 table = ctx->table_id, one = 1, *scans;

	scans = bpf_map_lookup_elem(&table_scans, &table);
	if (scans)
		__sync_fetch_and_add(scans, 1);
	else
		bpf_map_update_elem(&table_scans, &table, &one, BPF_NOEXIST);
	return 0;
}

SEC("duckdb/compression")
__u64 weigh(struct duckbpf_compression_ctx *ctx)
{
	__u64 table = ctx->table_id, *scans;
	__u32 wanted;

	if (ctx->physical_type != VARCHAR || ctx->score < least_bytes)
		return 0;
	scans = bpf_map_lookup_elem(&table_scans, &table);
	wanted = scans && *scans >= hot_scans ? UNCOMPRESSED : ZSTD;
	/* Scores of what is not wanted grow by as much as they may: stock counts zstd a thousand times for short strings. */
	return DUCKBPF_COMPRESSION(ctx->method == wanted ? 1 : 65535);
}
