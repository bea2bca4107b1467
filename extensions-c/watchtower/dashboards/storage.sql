-- Reads of files by time | bars
SELECT (1 << key.log2) || ' us' AS "from", list_sum(value) AS reads
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 0 ORDER BY key.log2;

-- Waits for a block that was not in memory | bars
SELECT (1 << key.log2) || ' us' AS "from", list_sum(value) AS waits
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 3 ORDER BY key.log2;

-- Reads by size | bars
SELECT (1 << key.log2) || ' KiB' AS "from", list_sum(value) AS reads
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 2 ORDER BY key.log2;

-- Checkpoints by time | bars
SELECT (1 << key.log2) || ' us' AS "from", list_sum(value) AS checkpoints
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 1 ORDER BY key.log2;

-- Spill by query | bars
SELECT (1 << key.log2) || ' KiB' AS "from", list_sum(value) AS queries
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 6 ORDER BY key.log2;

-- Queries that waited longest for reads | table
SELECT key AS query, value.reads AS reads, round(value.read_bytes / 1e6, 1) AS mb, round(value.read_ns / 1e6, 1) AS waited_ms,
    value.evictions AS evictions
FROM hook_map_entries('watchtower/watch_queries') ORDER BY value.read_ns DESC LIMIT 8;
