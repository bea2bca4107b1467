"""Eight clients run queries that need more memory, together, than there is. The time until all are done, by those that did not fail for want of
memory; and what the slowest query took."""

import time

import duckdb

from common import answer, in_threads, open_database, quantile, query

MIX = (9, 18, 21, 13)
CLIENTS = 8

connection = open_database(memory_limit="500MB", max_temp_directory_size="16GB")


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


# Once alone: the policy has seen them, and a query's time alone is known.
expected, alone_s = {}, {}
for number in MIX:
    begin = time.monotonic()
    expected[number] = rows(connection, number)
    alone_s[number] = time.monotonic() - begin

wrong = failed = 0
latencies = []
slowdowns = []


def client(number):
    def work():
        global wrong, failed
        cursor = connection.cursor()
        begin = time.monotonic()
        try:
            wrong += cursor.execute(query(number)).fetchall() != expected[number]
        except duckdb.OutOfMemoryException:
            failed += 1
        took = time.monotonic() - begin
        latencies.append(took)
        slowdowns.append(took / alone_s[number])

    return work


mix = [MIX[n % len(MIX)] for n in range(CLIENTS)]
begin = time.monotonic()
in_threads([client(number) for number in mix])
total_s = time.monotonic() - begin
answer(
    total_s=total_s,
    s_per_result=total_s / max(1, CLIENTS - failed),
    results=CLIENTS - failed,
    alone_s=sum(alone_s[number] for number in mix),
    latency_p50_s=quantile(latencies, 0.5),
    latency_max_s=max(latencies),
    slowdown_max=max(slowdowns),
    wrong=wrong,
    failed=failed,
)
