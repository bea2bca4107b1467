"""What state and statistics cost: TPC-H with programs that count every call, and with the default programs while somebody watches
them; and events a second. `cargo xtask bench state` runs it: state.py <job, a JSON object> <file to write>.

All is done in one process of the official wheel: before each execution of a query another configuration is put in force. The n-th
execution of one configuration lies beside the n-th of the others, and a query's ratio is the median of these pairs' ratios. Times are
those of the clock, and processor time of the whole process.
"""

import gc
import json
import math
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb

RESAMPLES = 2000
EVENTS = 2_000_000
"""That each of two threads emits at once; the ring has room for all."""


class Watcher(threading.Thread):
    """Does what `duckbpf top` does, once a second, while the context is open: calls are timed meanwhile."""

    def __init__(self, path):
        super().__init__()
        self.path, self.over = path, threading.Event()

    def __enter__(self):
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(self.path)
        self.lines = self.client.makefile("rb")
        self.ask("sampling", on=True)
        self.start()

    def ask(self, operation, **fields):
        self.client.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
        assert b'"ok"' in self.lines.readline()

    def run(self):
        while not self.over.wait(1):
            self.ask("stats")

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.lines.close()
        self.client.close()


class Nobody:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def connect(job):
    con = duckdb.connect(config={"allow_unsigned_extensions": "true", "threads": job["threads"]})
    con.execute("SET enable_progress_bar = false")
    con.execute(f"LOAD '{job['extension']}'")
    return con


def execute(con, sql):
    """Seconds of the clock and of processors."""
    gc.collect()
    wall, processor = time.perf_counter_ns(), time.process_time_ns()
    con.execute(sql).fetchall()
    return (time.perf_counter_ns() - wall) / 1e9, (time.process_time_ns() - processor) / 1e9


def tpch(job, path):
    """Samples, by configuration, query and kind of time. `path` is for a socket."""
    con = connect(job)
    con.execute(f"ATTACH '{job['file']}' AS tpch (READ_ONLY)")
    con.execute("USE tpch")
    con.execute(f"SET hook_socket = '{path}'")
    defaults, counting = ", ".join(job["defaults"]), ", ".join(job["counting"])
    configurations = {
        "defaults": (defaults, Nobody),
        "defaults again": (defaults, Nobody),
        "counting": (counting, Nobody),
        "watched": (defaults, lambda: Watcher(path)),
    }
    samples = {name: {number: ([], []) for number, _ in job["queries"]} for name in configurations}
    for turn in range(job["rounds"]):
        for number, sql in job["queries"]:
            if turn == 0:
                con.execute(sql).fetchall()
            names = list(configurations)
            place = (turn + number) % len(names)
            for name in names[place:] + names[:place]:
                programs, watcher = configurations[name]
                con.execute(f"SET hook_program = '{programs}'")
                with watcher():
                    for kind, seconds in zip(samples[name][number], execute(con, sql), strict=True):
                        kind.append(seconds)
        print(f"round {turn + 1} of {job['rounds']}", file=sys.stderr)
    con.close()
    return samples


def ratio(base, other, kind, turns):
    """Geometric mean over the queries of the median ratio of these turns."""
    medians = [
        statistics.median(other[number][kind][turn] / base[number][kind][turn] for turn in turns) for number in base
    ]
    return math.exp(statistics.fmean(map(math.log, medians)))


def compare(samples, rounds):
    """Against the defaults: the ratio of the clock's times and of processor time, with 95% intervals."""
    dice = random.Random(0x6475636B)
    base = samples["defaults"]
    resamples = [[dice.randrange(rounds) for _ in range(rounds)] for _ in range(RESAMPLES)]
    found = {}
    for name in list(samples)[1:]:
        found[name] = {}
        for kind, what in enumerate(["wall", "processor"]):
            ratios = sorted(ratio(base, samples[name], kind, turns) for turns in resamples)
            found[name][what] = {
                "ratio": ratio(base, samples[name], kind, range(rounds)),
                "low": ratios[int(0.025 * RESAMPLES)],
                "high": ratios[int(0.975 * RESAMPLES)],
            }
    return found


def emit(con, calls):
    """Nanoseconds that two threads take, at once, to call the program so often each."""
    began = threading.Barrier(2)

    def run():
        cursor = con.cursor()
        began.wait()
        cursor.execute(f"FROM hook_run('emit', repeat := {calls})").fetchall()

    threads = [threading.Thread(target=run) for _ in range(2)]
    start = time.perf_counter_ns()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return time.perf_counter_ns() - start


def events(job):
    """Events a second, medians of some turns, of two threads into one ring, none of them lost; and of one reader in SQL."""
    con = connect(job)
    con.execute("SET hook_map_memory = 1073741824")
    con.execute(f"CALL hook_attach('{job['emit']}')")
    written, read = [], []
    for _ in range(job["event_rounds"] + 1):
        written.append(2 * EVENTS / (emit(con, EVENTS) / 1e9))
        start, count = time.perf_counter_ns(), 0
        while taken := con.execute("SELECT count(block_id) FROM hook_events('events')").fetchone()[0]:
            count += taken
        assert count == 2 * EVENTS, f"{count} events"
        read.append(count / ((time.perf_counter_ns() - start) / 1e9))
    lost = con.execute("SELECT lost FROM hook_maps() WHERE name = 'events'").fetchone()[0]
    con.close()
    # The first turn makes the pages of the ring.
    return {"written_per_second": spread(written[1:]), "read_per_second": spread(read[1:]), "lost": lost}


def spread(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main(job, out):
    found = {"events": events(job)}
    # A socket's path is short.
    with tempfile.TemporaryDirectory() as folder:
        samples = tpch(job, f"{folder}/socket")
    found["tpch"] = compare(samples, job["rounds"])
    found["samples_s"] = samples
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
