"""Three scans of lineitem, nothing of it in DuckDB's memory: at 1 ms a read, and from the system's cache."""

import time

from common import answer, connect, database_of

QUERIES = {
    "narrow": "SELECT sum(l_quantity), sum(l_discount) FROM lineitem",
    "filter": "SELECT count(*), sum(l_extendedprice) FROM lineitem WHERE l_shipdate >= DATE '1997-01-01'",
    "wide": "SELECT sum(l_extendedprice), sum(l_tax), max(l_shipdate), max(l_commitdate), min(l_partkey) FROM lineitem",
}


connection = connect(":memory:", memory_limit="1GB")


def scans(delay_ms):
    connection.execute(f"SET debug_local_file_system_delay_ms = {delay_ms}")
    seconds = {}
    with database_of(connection):
        # The policy learns from reads how long they take.
        connection.execute("SELECT sum(o_totalprice) FROM orders WHERE o_orderkey < 4000000").fetchall()
        for name, sql in QUERIES.items():
            began = time.perf_counter()
            connection.execute(sql).fetchall()
            seconds[name] = time.perf_counter() - began
    return seconds


slow, cached = scans(1), scans(0)
numbers = {f"{name}_1ms_s": seconds for name, seconds in slow.items()}
numbers |= {f"{name}_cached_s": seconds for name, seconds in cached.items()}
answer(slow_s=sum(slow.values()), cached_s=sum(cached.values()), **numbers)
