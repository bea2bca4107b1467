"""Tenant A with eight clients, tenant B with one, all looping the same queries. What each gets is counted by the CPU time that its queries take alone."""

import threading
import time

from common import answer, in_threads, open_database, query, quoted, settings

MIX = (1, 3, 6, 9, 12, 14)
CLIENTS = {"A": 8, "B": 0 if settings["run"].endswith("alone") else 1}

connection = open_database()


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


expected, cpu_s = {}, {}
for number in MIX:
    rows(connection, number)
    begin = time.process_time()
    expected[number] = rows(connection, number)
    cpu_s[number] = time.process_time() - begin

given = {tenant: 0.0 for tenant in CLIENTS}
finished = {tenant: 0 for tenant in CLIENTS}
wrong = 0
lock = threading.Lock()
cpu_begin, begin = time.process_time(), time.monotonic()
end = begin + settings["seconds"]
cpu_end = None


def client(tenant, first):
    def work():
        global wrong
        cursor = connection.cursor()
        if settings["programs"] is not None:
            cursor.execute(f"SET hook_tag = {quoted(tenant)}")
        turn = first
        while (start := time.monotonic()) < end:
            number = MIX[turn % len(MIX)]
            turn += 1
            result = rows(cursor, number)
            stop = time.monotonic()
            with lock:
                given[tenant] += cpu_s[number] * min(1.0, (end - start) / (stop - start))
                finished[tenant] += 1
                wrong += result != expected[number]

    return work


def clock():
    global cpu_end
    time.sleep(max(0.0, end - time.monotonic()))
    cpu_end = time.process_time()


in_threads([clock] + [client(tenant, n) for tenant, count in CLIENTS.items() for n in range(count)])
work = sum(given.values())
answer(
    wrong=wrong,
    share_b=given["B"] / work if work else None,
    work=work / settings["seconds"],
    work_a=given["A"] / settings["seconds"],
    busy=(cpu_end - cpu_begin) / settings["seconds"] / settings["threads"],
    queries_a=finished["A"],
    queries_b=finished["B"],
)
