"""Tenant A with eight clients, tenant B with one, all looping the same queries. What each gets is counted twice: by the CPU time that its finished
queries take alone, which needs no hook, and, where the policy's program is attached, by the thread CPU of its queries' tasks."""

import threading
import time

from common import answer, in_threads, open_database, query, quoted, settings

MIX = (1, 3, 6, 9, 12, 14)
IS_ALONE = settings["run"].endswith("alone")
CLIENTS = {"A": 8, "B": 0 if IS_ALONE else 1}

connection = open_database()


def rows(cursor, number):
    return cursor.execute(query(number)).fetchall()


def tag(cursor, tenant):
    if settings["programs"] is not None:
        cursor.execute(f"SET hook_tag = {quoted(tenant)}")


def used_s(cursor):
    """Thread CPU by the program's number of the tenant; empty where nobody counts."""
    if settings["programs"] is None:
        return []
    used = cursor.execute("SELECT unnest(value.used_ns) FROM hook_map_entries('shares')").fetchall()
    return [seconds / 1e9 for (seconds,) in used]


def place(cursor):
    """Where the program counts the cursor's tenant."""
    before = used_s(cursor)
    rows(cursor, 6)
    grown = [after - before for after, before in zip(used_s(cursor), before, strict=True)]
    return grown.index(max(grown)) if grown else None


tag(connection, "A")
expected, cpu_s = {}, {}
for number in MIX:
    rows(connection, number)
    begin = time.process_time()
    expected[number] = rows(connection, number)
    cpu_s[number] = time.process_time() - begin
clerk = connection.cursor()
tag(clerk, "B")
place_b = place(clerk)
tag(clerk, "A")

given = {tenant: 0.0 for tenant in CLIENTS}
finished = {tenant: 0 for tenant in CLIENTS}
wrong = 0
last = 0.0
lock = threading.Lock()
used_begin = used_s(clerk)
cpu_begin, begin = time.process_time(), time.monotonic()
end = begin + settings["seconds"]
used_end = cpu_end = None


def client(tenant, first):
    def turns():
        """Alone, a tenant has so much to do, and it is counted how long it takes: with one query of each client under way at an end, the
        work of a stretch of time is too coarse to compare."""
        if IS_ALONE:
            yield from range(first, first + len(MIX))
            return
        turn = first
        while time.monotonic() < end:
            yield turn
            turn += 1

    def work():
        global wrong, last
        cursor = connection.cursor()
        tag(cursor, tenant)
        for turn in turns():
            number = MIX[turn % len(MIX)]
            start = time.monotonic()
            result = rows(cursor, number)
            stop = time.monotonic()
            with lock:
                given[tenant] += cpu_s[number] * max(0.0, min(1.0, (end - start) / (stop - start)))
                finished[tenant] += 1
                last = max(last, stop)
                wrong += result != expected[number]

    return work


def clock():
    global cpu_end, used_end
    time.sleep(max(0.0, end - time.monotonic()))
    cpu_end = time.process_time()
    used_end = used_s(clerk)


in_threads([clock] + [client(tenant, n) for tenant, count in CLIENTS.items() for n in range(count)])
work = sum(given.values())
numbers = {"all_s": last - begin} if IS_ALONE else {}
if used_begin:
    used = [after - before for after, before in zip(used_end, used_begin, strict=True)]
    numbers["cpu_share_b"] = used[place_b] / sum(used)
answer(
    **numbers,
    wrong=wrong,
    work_share_b=given["B"] / work if work else None,
    work=work / settings["seconds"],
    work_a=given["A"] / settings["seconds"],
    busy=(cpu_end - cpu_begin) / settings["seconds"] / settings["threads"],
    queries_a=finished["A"],
    queries_b=finished["B"],
)
