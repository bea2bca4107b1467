"""Light queries at fixed times beside clients that run heavy ones, each the same once. Latencies count from the time at which a query was due,
heavy_s is until the last heavy one has ended."""

import random
import threading
import time

from common import answer, in_threads, open_database, quantile, query, settings

HEAVY = (9, 18, 21, 13, 1)
LIGHT = (6, 22, 2, 11)
CLIENTS = 4
LONGEST_S = 600.0
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
#: The same ones in every run, for as long as it takes.
arrivals, due = [], 0.0
while due < LONGEST_S:
    due += gap_s * rng.uniform(0.5, 1.5)
    arrivals.append((due, LIGHT[len(arrivals) % len(LIGHT)]))

wrong = 0
numbers = {}
latencies = {number: [] for number in LIGHT}
begin = time.monotonic()
over = threading.Event()


def serve(share):
    """One of the open-loop client's connections: they take arrivals in turn, so that one that is late holds up no other."""

    def work():
        global wrong
        cursor = connection.cursor()
        for due, number in share:
            if over.wait(max(0.0, begin + due - time.monotonic())):
                return
            result = rows(cursor, number)
            latencies[number].append(time.monotonic() - begin - due)
            wrong += result != expected[number]

    return work


def run_heavy(client):
    """Each of the heavy ones once, so that every run does the same work, and what takes longest to its end is counted to its end."""

    def work():
        global wrong
        cursor = connection.cursor()
        for turn in range(len(HEAVY)):
            number = HEAVY[(client + turn) % len(HEAVY)]
            wrong += rows(cursor, number) != expected[number]

    return work


def run_all():
    """Arrivals end with the heavy queries."""
    try:
        if settings["run"] == "alone":
            time.sleep(settings["seconds"])
        else:
            in_threads([run_heavy(client) for client in range(CLIENTS)])
            numbers["heavy_s"] = time.monotonic() - begin
    finally:
        over.set()


CONNECTIONS = 8
cpu_before = time.process_time()
in_threads([serve(arrivals[n::CONNECTIONS]) for n in range(CONNECTIONS)] + [run_all])
elapsed_s = time.monotonic() - begin
busy = (time.process_time() - cpu_before) / elapsed_s / settings["threads"]

numbers |= {"wrong": wrong, "light": sum(map(len, latencies.values())), "mean_cpu_s": mean_cpu_s, "busy": busy}
alone = {number: (baseline or {}).get(f"p50_q{number}") or quantile(latencies[number], 0.5) for number in LIGHT}
slowdowns = [latency / alone[number] for number in LIGHT for latency in latencies[number]]
numbers |= {f"slowdown_p{q}": quantile(slowdowns, q / 100) for q in (50, 95, 99)}
for number in LIGHT:
    numbers[f"p50_q{number}"] = quantile(latencies[number], 0.5)
    numbers[f"p95_q{number}"] = quantile(latencies[number], 0.95)
answer(**numbers)
