"""Joins and aggregates on integer keys: of TPC-H, and of keys that are even, skewed, strided or random. Each query once to load its data,
then three times; the median counts."""

import time

from common import answer, connect, database_of, quantile

ROWS = 12_000_000
RUNS = 3

#: A table of ROWS rows for each kind of key, and of DISTINCT keys to join it with.
DISTINCT = 1_000_000
KEYS = {
    "even": f"i % {DISTINCT}",
    # Half of the rows have a hundredth of the keys, and so on.
    "skewed": f"({DISTINCT} * pow((hash(i) % 1000003) / 1000003.0, 6.6))::BIGINT",
    # Nothing but zeros in the lower half.
    "strided": f"(i % {DISTINCT}) << 32",
    "random": f"(hash(i % {DISTINCT}) >> 1)::BIGINT",
}
TPCH = {
    "tpch_join": "SELECT count(*), sum(o_shippriority) FROM lineitem JOIN orders ON l_orderkey = o_orderkey",
    "tpch_group": "SELECT count(*), max(n) FROM (SELECT l_partkey, count(*) AS n FROM lineitem GROUP BY l_partkey)",
    "tpch_two_keys": "SELECT count(*) FROM (SELECT l_partkey, l_suppkey FROM lineitem GROUP BY ALL)",
}


def median_s(connection, sql):
    seconds = []
    for _ in range(RUNS + 1):
        begin = time.monotonic()
        connection.execute(sql).fetchall()
        seconds.append(time.monotonic() - begin)
    return quantile(seconds[1:], 0.5)


connection = connect(":memory:")
numbers = {}
for kind, key in KEYS.items():
    connection.execute(f"CREATE TABLE facts AS SELECT {key} AS k, i % 100 AS v FROM range({ROWS}) r(i)")
    connection.execute("CREATE TABLE keys AS SELECT DISTINCT k, k % 7 AS w FROM facts")
    numbers[f"{kind}_join_s"] = median_s(connection, "SELECT count(*), sum(v + w) FROM facts JOIN keys USING (k)")
    numbers[f"{kind}_group_s"] = median_s(
        connection, "SELECT count(*), max(n) FROM (SELECT k, sum(v) AS n FROM facts GROUP BY k)"
    )
    connection.execute("DROP TABLE facts; DROP TABLE keys")
with database_of(connection):
    for name, sql in TPCH.items():
        numbers[f"{name}_s"] = median_s(connection, sql)

joins = sum(seconds for name, seconds in numbers.items() if "_join" in name)
answer(total_s=sum(numbers.values()), joins_s=joins, groups_s=sum(numbers.values()) - joins, **numbers)
