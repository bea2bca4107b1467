-- Queries by duration | bars
SELECT round((1 << key.log2) / 1000, 1) || ' ms' AS "from", list_sum(value) AS queries
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 5 ORDER BY key.log2;

-- Until a worker took a query's tasks | bars
SELECT (1 << key.log2) || ' us' AS "from", list_sum(value) AS times
FROM hook_map_entries('watchtower/watch_histograms') WHERE key.what = 4 ORDER BY key.log2;

-- Queries that used most | table
SELECT key AS query, round(value.duration_ns / 1e6) AS ms, round(value.cpu_ns / 1e6) AS cpu_ms, value.slices AS slices,
    round(value.peak_memory / 1e6) AS peak_mb, round(value.spill_bytes / 1e6) AS spill_mb
FROM hook_map_entries('watchtower/watch_queries') WHERE value.duration_ns > 0 ORDER BY value.cpu_ns DESC LIMIT 8;

-- Failed queries by DuckDB's ExceptionType | table
SELECT key AS exception_type, value AS queries FROM hook_map_entries('watchtower/watch_errors') ORDER BY value DESC;

-- The way of one query through tasks and blocks | points
WITH events AS MATERIALIZED (FROM hook_events('watchtower/watch_events')),
    longest AS (SELECT query_id FROM events WHERE query_id > 0 GROUP BY ALL ORDER BY count(*) DESC LIMIT 1)
SELECT (time_ns - min(time_ns) OVER ()) / 1e6 AS ms,
    ['read', 'eviction', 'checkpoint', 'slice', 'block', 'end'][1 + what] || ', thread ' || thread AS step
FROM events WHERE query_id = (FROM longest) ORDER BY 1;
