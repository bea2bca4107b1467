"""Eight clients run queries that need more memory, together, than there is. A client whose query failed for want of memory sends it again, as an
application would, until it has its result. The time until all have theirs; and what the slowest took, of what its query takes alone."""

import time

import duckdb

from common import answer, in_threads, open_database, quantile, query

MIX = (9, 18, 21, 13)
CLIENTS = 8
#: Before a query that failed is sent again.
PAUSE_S = 0.5
#: A client that has no result after so long gives up, and says so.
PATIENCE_S = 600

connection = open_database(memory_limit="500MB", max_temp_directory_size="16GB")


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


# Once alone: the policy has seen them, and a query's time alone is known.
expected, alone_s = {}, {}
for number in MIX:
    begin = time.monotonic()
    expected[number] = rows(connection, number)
    alone_s[number] = time.monotonic() - begin

wrong = 0
failures = []
first_results = []
latencies = []
slowdowns = []


def client(number):
    def work():
        global wrong
        cursor = connection.cursor()
        begin = time.monotonic()
        tries = 0
        while (took := time.monotonic() - begin) < PATIENCE_S:
            tries += 1
            try:
                result = rows(cursor, number)
            except duckdb.OutOfMemoryException:
                failures.append(number)
                time.sleep(PAUSE_S)
                continue
            took = time.monotonic() - begin
            wrong += result != expected[number]
            first_results.append(tries == 1)
            break
        latencies.append(took)
        slowdowns.append(took / alone_s[number])

    return work


mix = [MIX[n % len(MIX)] for n in range(CLIENTS)]
begin = time.monotonic()
in_threads([client(number) for number in mix])
total_s = time.monotonic() - begin
answer(
    total_s=total_s,
    failures=len(failures),
    at_first_try=sum(first_results),
    without_result=CLIENTS - len(first_results),
    alone_s=sum(alone_s[number] for number in mix),
    latency_p50_s=quantile(latencies, 0.5),
    latency_max_s=max(latencies),
    slowdown_max=max(slowdowns),
    wrong=wrong,
)
