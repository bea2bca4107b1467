"""Point look-ups and a dimension beside scans over columns that are larger than the memory limit; and the scans alone. From the
system's cache, then at 1 ms a read."""

import contextlib
import threading
import time

from common import answer, connect, database_of, in_threads, quantile, settings

LIMIT = "700MB"
SCAN = "SELECT sum(l_extendedprice), sum(l_partkey), sum(l_suppkey), sum(l_discount) FROM lineitem"
#: Orders that are looked up again and again.
KEYS = [32 * 7919 * n for n in range(1, 60)]
LOOKUPS_PER_S = 20
#: Scans before anything is measured: the policy goes by what was wanted before.
FIRST_SCANS = 3
ALONE_SCANS = 4


def client(connection):
    cursor = connection.cursor()
    cursor.execute("USE tpch")
    return cursor


def lookup(cursor, n):
    key = KEYS[n % len(KEYS)]
    cursor.execute(f"SELECT o_totalprice, o_orderdate, o_custkey FROM orders WHERE o_orderkey = {key}").fetchall()
    cursor.execute(
        f"SELECT s_name, n_name FROM supplier JOIN nation ON s_nationkey = n_nationkey WHERE s_suppkey = {n % 997 + 1}"
    ).fetchall()


def mix(connection, seconds, with_scans):
    """Look-ups at fixed times, beside a client that scans."""
    latencies, scans, stop = [], [], threading.Event()
    cursor = client(connection)
    for n in range(len(KEYS)):
        lookup(cursor, n)
    begin = time.perf_counter()

    def look_up():
        for n in range(int(seconds * LOOKUPS_PER_S)):
            due = begin + n / LOOKUPS_PER_S
            time.sleep(max(0.0, due - time.perf_counter()))
            lookup(cursor, n)
            latencies.append(1000 * (time.perf_counter() - due))
        stop.set()

    def scan():
        other = client(connection)
        while not stop.is_set():
            began = time.perf_counter()
            other.execute(SCAN).fetchall()
            scans.append(time.perf_counter() - began)

    in_threads([look_up, scan] if with_scans else [look_up])
    return quantile(latencies, 0.5), quantile(latencies, 0.95), quantile(scans, 0.5)


def phase(delay_ms, seconds):
    """In a database of its own: where the threads of other work left their lines in DuckDB's queue, it evicts in another order."""
    limit = "6GB" if settings["run"] == "unlimited" else LIMIT
    connection = connect(":memory:", attach=delay_ms == 0, memory_limit=limit)
    connection.execute(f"SET debug_local_file_system_delay_ms = {delay_ms}")
    with contextlib.closing(connection), database_of(connection):
        scans_alone_s = mean_scan(connection)
        alone_p50, _, _ = mix(connection, seconds / 3, False)
        p50, p95, scan_s = mix(connection, seconds, True)
        return {
            "alone_p50_ms": alone_p50,
            "p50_ms": p50,
            "p95_ms": p95,
            "slowdown_p50": p50 / alone_p50,
            "scan_s": scan_s,
            "scans_alone_s": scans_alone_s,
            "scans_after_s": mean_scan(connection),
        }


def mean_scan(connection):
    for _ in range(FIRST_SCANS):
        connection.execute(SCAN).fetchall()
    began = time.perf_counter()
    for _ in range(ALONE_SCANS):
        connection.execute(SCAN).fetchall()
    return (time.perf_counter() - began) / ALONE_SCANS


cached, slow = phase(0, settings["seconds"] / 3), phase(1, settings["seconds"] / 3)
answer(
    **{f"{name}_cached": value for name, value in cached.items()},
    **{f"{name}_1ms": value for name, value in slow.items()},
)
