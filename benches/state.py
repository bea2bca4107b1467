"""How many events a second reach a ring buffer from two threads, and are read in SQL. `cargo xtask bench state` runs it:
state.py <job, a JSON object> <file to write>.
"""

import json
import statistics
import sys
import threading
import time
from pathlib import Path

import duckdb

EVENTS = 2_000_000
"""That each of two threads emits at once; the ring has room for all."""


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
    con = duckdb.connect(config={"allow_unsigned_extensions": "true", "threads": 2})
    con.execute(f"LOAD '{job['extension']}'")
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


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(events(json.loads(sys.argv[1]))), encoding="utf-8")
