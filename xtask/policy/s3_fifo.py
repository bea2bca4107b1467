"""Look-ups of random orders, of which a few are wanted far more often than others, beside a scan now and then, at a memory limit that holds a
third of the blocks that they touch; at 1 ms a read. How long the look-ups take, and how many reads they need."""

import random
import time

from common import answer, connect, database_of, quantile, settings

LIMIT = "150MB"
SCAN = "SELECT sum(o_totalprice) FROM orders WHERE o_orderkey < 12000000"
SCAN_EVERY = 150
#: Orders by rank; the first ones are wanted most (Zipf's law with this exponent).
ORDERS = 20_000
EXPONENT = 1.1

rng = random.Random(1)
keys = [rng.randrange(1, 30_000_000) // 8 * 32 + 1 for _ in range(ORDERS)]
weights = [1 / (rank + 1) ** EXPONENT for rank in range(ORDERS)]

connection = connect(":memory:", memory_limit=LIMIT)
with database_of(connection):
    connection.execute("SET debug_local_file_system_delay_ms = 1")
    latencies = []
    wanted = rng.choices(keys, weights, k=1_000_000)
    begin = time.perf_counter()
    for n, key in enumerate(wanted):
        if n % SCAN_EVERY == 0:
            connection.execute(SCAN).fetchall()
        due = time.perf_counter()
        connection.execute(f"SELECT o_totalprice, o_custkey FROM orders WHERE o_orderkey = {key}").fetchall()
        latencies.append(1000 * (time.perf_counter() - due))
        # The first third fills the memory.
        if time.perf_counter() - begin > settings["seconds"]:
            break
    counted = latencies[len(latencies) // 3 :]
answer(
    mean_ms=sum(counted) / len(counted),
    p50_ms=quantile(counted, 0.5),
    p95_ms=quantile(counted, 0.95),
    lookups=len(latencies),
)
