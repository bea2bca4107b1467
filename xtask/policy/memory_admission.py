"""Eight clients run queries that need more memory, together, than there is. The time until all are done, and what the slowest query took."""

import time

from common import answer, in_threads, open_database, quantile, query

MIX = (9, 18, 21, 13)
CLIENTS = 8
QUERIES_EACH = 2

connection = open_database(memory_limit="500MB")


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


# Once alone: the policy has seen them, and a query's time alone is known.
expected, alone_s = {}, {}
for number in MIX:
    begin = time.monotonic()
    expected[number] = rows(connection, number)
    alone_s[number] = time.monotonic() - begin

wrong = 0
latencies = []
slowdowns = []


def client(first):
    def work():
        global wrong
        cursor = connection.cursor()
        for turn in range(first, first + QUERIES_EACH):
            number = MIX[turn % len(MIX)]
            begin = time.monotonic()
            result = rows(cursor, number)
            took = time.monotonic() - begin
            latencies.append(took)
            slowdowns.append(took / alone_s[number])
            wrong += result != expected[number]

    return work


begin = time.monotonic()
in_threads([client(n) for n in range(CLIENTS)])
answer(
    total_s=time.monotonic() - begin,
    alone_s=sum(alone_s[MIX[(n + k) % len(MIX)]] for n in range(CLIENTS) for k in range(QUERIES_EACH)),
    latency_p50_s=quantile(latencies, 0.5),
    latency_max_s=max(latencies),
    slowdown_max=max(slowdowns),
    wrong=wrong,
)
