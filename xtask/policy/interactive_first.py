"""Light queries at fixed times beside clients that loop heavy ones. Latencies count from the time at which a query was due."""

import random
import time

from common import answer, in_threads, open_database, quantile, query, settings

HEAVY = (9, 18, 21, 13, 1)
LIGHT = (6, 22, 2, 11)
CLIENTS = 4
#: Share of the machine that the light queries take when they are alone.
SHARE = 0.18

connection = open_database()


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


# Everything once, before the clock runs: data in memory, and queries that the policy has seen.
expected, cpu_s = {}, {}
for number in LIGHT + (() if settings["run"] == "alone" else HEAVY):
    rows(connection, number)
    begin = time.process_time()
    expected[number] = rows(connection, number)
    cpu_s[number] = time.process_time() - begin

baseline = settings["baseline"]
mean_cpu_s = baseline["mean_cpu_s"] if baseline else sum(cpu_s[number] for number in LIGHT) / len(LIGHT)
gap_s = mean_cpu_s / (SHARE * settings["threads"])
rng = random.Random(settings["round"])
arrivals, due = [], 0.0
while True:
    due += gap_s * rng.uniform(0.5, 1.5)
    if due > settings["seconds"]:
        break
    arrivals.append((due, LIGHT[len(arrivals) % len(LIGHT)]))

wrong = 0
latencies = {number: [] for number in LIGHT}
begin = time.monotonic()
end = begin + settings["seconds"]


def serve(share):
    """One of the open-loop client's connections: they take arrivals in turn, so that one that is late holds up no other."""

    def work():
        global wrong
        cursor = connection.cursor()
        for due, number in share:
            time.sleep(max(0.0, begin + due - time.monotonic()))
            result = rows(cursor, number)
            latencies[number].append(time.monotonic() - begin - due)
            wrong += result != expected[number]

    return work


work_done = [0.0] * CLIENTS
finished = [0] * CLIENTS


def loop(client):
    """Queries that are finished count with the CPU time that they take alone; the one that runs at the end with the share of its time
    that lies before the end."""

    def work():
        global wrong
        cursor = connection.cursor()
        turn = client
        while (start := time.monotonic()) < end:
            number = HEAVY[turn % len(HEAVY)]
            turn += 1
            result = rows(cursor, number)
            stop = time.monotonic()
            work_done[client] += cpu_s[number] * min(1.0, (end - start) / (stop - start))
            finished[client] += 1
            wrong += result != expected[number]

    return work


CONNECTIONS = 8
clients = [] if settings["run"] == "alone" else [loop(client) for client in range(CLIENTS)]
in_threads([serve(arrivals[n::CONNECTIONS]) for n in range(CONNECTIONS)] + clients)

numbers = {"wrong": wrong, "light": len(arrivals), "mean_cpu_s": mean_cpu_s}
alone = {number: (baseline or {}).get(f"p50_q{number}") or quantile(latencies[number], 0.5) for number in LIGHT}
slowdowns = [latency / alone[number] for number in LIGHT for latency in latencies[number]]
numbers |= {f"slowdown_p{q}": quantile(slowdowns, q / 100) for q in (50, 95, 99)}
for number in LIGHT:
    numbers[f"p50_q{number}"] = quantile(latencies[number], 0.5)
    numbers[f"p95_q{number}"] = quantile(latencies[number], 0.95)
if clients:
    numbers |= {"heavy_work": sum(work_done) / settings["seconds"], "heavy_queries": sum(finished)}
answer(**numbers)
