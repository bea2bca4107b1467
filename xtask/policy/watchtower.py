"""The 22 queries of TPC-H, one after the other and then from four clients at once: what watching them costs."""

import time

from common import answer, in_threads, open_database, quantile, query, settings

QUERIES = range(1, 23)
CLIENTS = 4

connection = open_database()


def run(cursor, number):
    begin = time.monotonic()
    cursor.execute(query(number)).fetchall()
    return time.monotonic() - begin


for number in QUERIES:
    run(connection, number)
repeats = max(1, round(settings["seconds"] / 25))
by_query = [quantile([run(connection, number) for _ in range(repeats)], 0.5) for number in QUERIES]


def client(first):
    def work():
        cursor = connection.cursor()
        for turn in range(len(QUERIES)):
            run(cursor, QUERIES[(first + turn) % len(QUERIES)])

    return work


begin = time.monotonic()
in_threads([client(n * len(QUERIES) // CLIENTS) for n in range(CLIENTS)])
answer(alone_s=sum(by_query), together_s=time.monotonic() - begin)
