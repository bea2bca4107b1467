"""The `duckbpf` command on a live database: a process that works while it is looked at."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, SO_PEERCRED, SOL_SOCKET
from socket import socket as unix_socket

import pytest

from official import CONFIG, ROOT

COMMAND = ROOT / "target" / "debug" / "duckbpf"

WORK = """
import sys, threading, duckdb
config, socket, database = eval(sys.argv[1]), sys.argv[2], sys.argv[3]
con = duckdb.connect(database, config=config)
# A slow machine would see it on the way that this script speaks.
con.execute("SET enable_progress_bar = false")
con.execute("LOAD duckbpf")
try:
    con.execute(f"SET hook_socket = '{socket}'")
except duckdb.CatalogException as error:
    print(error, flush=True)
    sys.exit()
con.execute("CREATE TABLE t AS SELECT i % 1007 AS k, hash(i) AS v FROM range(300000) r(i)")
con.execute("CHECKPOINT")
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("ready", flush=True)
while not ended.is_set():
    con.execute("SELECT k, sum(v) FROM t GROUP BY k ORDER BY k").fetchall()
"""

Duckbpf = Callable[..., str]


@pytest.fixture(scope="module")
def socket(tmp_path_factory) -> Iterator[Path]:
    """The socket of a database that runs queries all the while."""
    folder = tmp_path_factory.mktemp("live")
    path = folder / "duckbpf.sock"
    arguments = [sys.executable, "-c", WORK, repr(CONFIG), str(path), str(folder / "live.duckdb")]
    # Not in a hurry: what is tested is to get its turn.
    with subprocess.Popen(["nice", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        if "hook_socket" in said:
            pytest.skip(f"SKIPPED: this extension has no control socket: {said}")
        assert said == "ready\n"
        yield path
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def duckbpf(socket: Path, gallery: Path) -> Iterator[Duckbpf]:
    """Runs the command; afterwards nothing is attached."""
    assert COMMAND.is_file(), f"{COMMAND} was not built: cargo build --bin duckbpf"

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [COMMAND, *arguments],
            env={**os.environ, "DUCKBPF_SOCKET": str(socket)},
            cwd=gallery,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    yield run
    for name in {program["name"] for program in json.loads(run("prog", "list", "--json"))}:
        run("prog", "detach", name)


def test_programs_are_attached_listed_run_and_detached(duckbpf):
    assert "attached count_calls to schedule_task" in duckbpf("prog", "attach", "count_calls.bpf.o")
    assert "is held by count_calls already" in duckbpf("prog", "attach", "default_load.bpf.o", code=2)
    programs = json.loads(duckbpf("prog", "list", "--json"))
    assert {program["hook"] for program in programs} >= {"load", "unpin"}
    listed = duckbpf("prog", "list").splitlines()
    assert len(listed) == len(programs) + 1
    assert "worst_cost" in duckbpf("prog", "show", "count_calls")
    assert "no program named" in duckbpf("prog", "show", "nobody", code=2)
    ran = json.loads(duckbpf("prog", "run", "count_calls", "--hook", "load", "--repeat", "1000", "--json"))
    assert (ran["repeat"], ran["result"]) == (1000, 0)
    assert "exit" in duckbpf("prog", "dump", "count_calls")
    assert "exit" in duckbpf("prog", "dump", "count_calls.bpf.o")
    assert "(attached: count_calls); the gallery has " in duckbpf("prog", "dump", "nobody", code=2)
    assert "nobody.bpf.o: does not exist" in duckbpf("prog", "dump", "nobody.bpf.o", code=2)
    assert duckbpf("prog", "detach", "--hook", "load") == "detached count_calls\n"
    assert "no program" in duckbpf("prog", "detach", "count_calls", code=2)


def test_constants_are_set(duckbpf):
    assert "sample" in duckbpf("prog", "attach", "trace_load.bpf.o", "--param", "sample=often", code=2)
    duckbpf("prog", "attach", "trace_load.bpf.o", "--param", "sample=10")


def test_maps_are_read_and_changed(duckbpf):
    duckbpf("prog", "attach", "unpin_sizes.bpf.o")
    key = '{"query_id": 1000000, "tag": 0, "log2_size": 18}'
    duckbpf("map", "update", "sizes", key, "100")
    entries = json.loads(duckbpf("map", "dump", "unpin_sizes/sizes", "--json"))
    assert [entry["value"] for entry in entries if entry["key"]["query_id"] == 1000000] == [100]
    assert "the key exists" in duckbpf("map", "update", "sizes", key, "1", "--mode", "noexist", code=2)
    duckbpf("map", "delete", "sizes", key)
    assert "no such key" in duckbpf("map", "delete", "sizes", key, code=2)
    assert "lru_hash" in duckbpf("map", "list")
    assert "no map is named" in duckbpf("map", "dump", "nothing", code=2)


def test_top_speaks_json(duckbpf):
    duckbpf("prog", "attach", "count_calls.bpf.o")
    lines = duckbpf("top", "--json", "-n", "2", "--interval", "0.5").splitlines()
    looks = [json.loads(line) for line in lines]
    assert len(looks) == 2
    busy = {program["hook"]: program for program in looks[-1]["programs"]}["update_used_memory"]
    assert busy["calls_per_second"] > 0
    assert looks[-1]["map_memory"] > 0


def test_metrics_are_served(duckbpf, socket):
    duckbpf("prog", "attach", "count_calls.bpf.o")
    arguments = [COMMAND, "top", "--listen", "127.0.0.1:0", "--socket", str(socket)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        address = re.search(r"http://\S+/metrics", process.stderr.readline()).group()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text = answer.read().decode()
        process.send_signal(signal.SIGTERM)
    assert text.endswith("# EOF\n")
    assert re.search(r'^duckbpf_program_calls_total\{program="count_calls",.*hook="load".*\} \d+$', text, re.MULTILINE)


def test_a_one_liner_counts(duckbpf):
    lines = duckbpf(
        "trace",
        "--json",
        "-d",
        "1",
        "-e",
        "hook:unpin /args.size > 4096/ { @[args.tag] = count(); @h = hist(args.size); }",
    )
    maps = {table["map"]: table["entries"] for table in map(json.loads, lines.splitlines())}
    assert sum(entry["value"] for entry in maps["@"]) > 0
    (histogram,) = maps["@h"]
    assert sum(bucket["count"] for bucket in histogram["value"]) > 0
    assert all(bucket["from"] >= 4096 for bucket in histogram["value"])
    assert json.loads(duckbpf("prog", "list", "--json")) == []


def test_one_liners_speak_and_end_by_themselves(duckbpf):
    text = 'hook:load { printf("block of %d bytes\\n", args.size); @n++; exit(); } END { printf("end\\n"); }'
    said = duckbpf("trace", "-d", "30", "-e", text).splitlines()
    assert re.fullmatch(r"block of \d+ bytes", said[0])
    assert said[-2] == "end"
    assert int(said[-1].removeprefix("@n: ")) >= 1


def test_pid_is_the_databases(duckbpf, socket):
    with unix_socket(AF_UNIX) as client:
        client.connect(str(socket))
        pid, _, _ = struct.unpack("3i", client.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))
    lines = duckbpf("trace", "--json", "-d", "1", "-e", "hook:unpin { @[pid] = count(); }")
    (table,) = map(json.loads, lines.splitlines())
    assert [entry["key"] for entry in table["entries"]] == [[pid]]


def test_intervals_print_and_clear(duckbpf):
    text = "hook:update_used_memory { @ = count(); } interval:ms:300 { print(@); clear(@); }"
    counts = re.findall(r"^@: (\d+)$", duckbpf("trace", "-d", "1", "-e", text), re.MULTILINE)
    assert len(counts) >= 3


def test_ctrl_c_prints_and_detaches(duckbpf, socket):
    arguments = [COMMAND, "trace", "--socket", str(socket), "-e", "hook:unpin { @ = count(); }"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "tracing unpin" in process.stderr.readline()
        deadline = time.monotonic() + 60
        while not json.loads(duckbpf("prog", "list", "--json"))[0]["calls"] and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert int(out.removeprefix("@: ")) > 0
    assert json.loads(duckbpf("prog", "list", "--json")) == []


def test_many_clients_at_once(duckbpf):
    duckbpf("prog", "attach", "count_calls.bpf.o")
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(duckbpf("prog", "list", "--json"))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(results) == 8 and all(json.loads(result) for result in results)


def test_the_books_commands_work(duckbpf, socket, gallery, tmp_path):
    """As printed, in their order."""
    pages = "".join((ROOT / "docs" / "src" / page).read_text() for page in ("command.md", "jit.md"))
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", pages, re.DOTALL | re.MULTILINE))
    shutil.copytree(gallery, tmp_path / "target" / "bpf")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "duckbpf").symlink_to(COMMAND)
    environment = {**os.environ, "DUCKBPF_SOCKET": str(socket), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
