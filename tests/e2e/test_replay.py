"""`duckbpf record` and `duckbpf replay`: what is played agrees with what happens."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tables

from official import ROOT

COMMAND = ROOT / "target" / "debug" / "duckbpf"
LIMIT = "24MB"
COUNT_READS = 'SEC("duckdb/file_read") __u64 f(void *c) { return 0; }'


@pytest.fixture
def open_cold(file_db) -> Callable:
    return tables.cold(file_db)


def work(db) -> None:
    """Look-ups with a skew, and a scan now and then, of a table that does not fit."""
    rng = random.Random(1)
    for turn in range(150):
        begin = int(tables.ROWS * rng.paretovariate(1.2) / 40) % tables.ROWS
        db(f"SELECT max(v), max(w) FROM t WHERE rowid BETWEEN {begin} AND {begin + 100}")
        if turn % 30 == 29:
            db("SELECT sum(v) FROM t")


def record(db, tmp_path: Path) -> Path:
    """The trace of the work."""
    assert COMMAND.is_file(), f"{COMMAND} was not built: cargo build --bin duckbpf"
    socket, trace = tmp_path / "duckbpf.sock", tmp_path / "work.trace"
    db(f"SET hook_socket = '{socket}'")
    arguments = [COMMAND, "record", "--output", trace]
    environment = {**os.environ, "DUCKBPF_SOCKET": str(socket)}
    with subprocess.Popen(
        arguments, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as recorder:
        assert "recording" in recorder.stderr.readline()
        work(db)
        recorder.send_signal(signal.SIGINT)
        said, complaint = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, complaint
    assert "events" in said
    db("SET hook_socket = ''")
    return trace


def replay(*arguments) -> dict[str, list[float]]:
    """Hit ratios by policy, in the order of the limits."""
    done = subprocess.run(
        [COMMAND, "replay", "--json", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    ratios = {row["policy"]: [result["hit_ratio"] for result in row["results"]] for row in said["policies"]}
    return {**ratios, "recorded": [said["recorded"]["hit_ratio"]]}


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_replay_agrees_with_what_was_recorded(open_cold, tmp_path, threads):
    db = open_cold(threads=threads, memory_limit=LIMIT)
    trace = record(db, tmp_path)
    ratios = replay(trace)
    assert 0.1 < ratios["recorded"][0] < 0.95
    assert ratios["DuckDB"] == pytest.approx(ratios["recorded"], abs=0.02)
    both = replay("--memory", "12MB,48MB", "--csv", tmp_path / "loads.csv", trace)
    for policy in ("LRU", "DuckDB"):
        small, large = both[policy]
        assert small < large
        assert all(ratio <= best for ratio, best in zip(both[policy], both["optimum"], strict=True))
    lines = (tmp_path / "loads.csv").read_text().splitlines()
    assert lines[0] == "time,obj_id,obj_size" and len(lines) > 500


@pytest.mark.parametrize("policy", ["s3-fifo", "scan-resistant"])
def test_a_policy_that_is_played_agrees_with_what_it_does_at_work(open_cold, tmp_path, gallery, bpf, policy):
    db = open_cold(memory_limit=LIMIT)
    trace = record(db, tmp_path)
    db.connection.close()
    program = gallery / f"{policy}.bpf.o"
    played = replay(program, trace)
    db = open_cold(memory_limit=LIMIT)
    db.set(program, bpf(COUNT_READS, "count_reads"))
    loads, reads = (db.point(hook)["calls"] for hook in ("load", "file_read"))
    work(db)
    loads, reads = db.point("load")["calls"] - loads, db.point("file_read")["calls"] - reads
    assert played["optimum"][0] >= played[policy][0] > played["DuckDB"][0] + 0.05
    assert 1 - reads / loads == pytest.approx(played[policy][0], abs=0.02)
