"""USDT probes: what is in the file, and what bpftrace sees of a process."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from official import CONFIG, EXTENSION

PROBES = {"load", "swap", "refusal", "fallback"}

WORK = """
import sys, duckdb
con = duckdb.connect(config=eval(sys.argv[1]))
con.execute("LOAD duckbpf")
print("loaded", flush=True)
sys.stdin.readline()
con.execute(f"CALL hook_attach('{sys.argv[2]}')")
try:
    con.execute("CALL hook_attach('/nonexistent/missing.bpf.o')")
except duckdb.Error:
    pass
con.execute("SET hook_program = ''")
"""


def test_the_file_tells_its_probes():
    # As a note of its own kind (sys/sdt.h): provider, name, where the arguments are.
    found = re.findall(rb"duckbpf\0(\w+)\0[-\d@%$(),a-z ]*\0", EXTENSION.read_bytes())
    assert {name.decode() for name in found} == PROBES


@pytest.fixture
def bpftrace() -> str:
    command = shutil.which("bpftrace")
    if command is None:
        pytest.skip("SKIPPED: bpftrace is not installed; apt-get install bpftrace")
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: bpftrace needs root")
    return command


def test_bpftrace_lists_them(bpftrace):
    listed = subprocess.run(
        [bpftrace, "-l", f"usdt:{EXTENSION}:*"], capture_output=True, text=True, timeout=60, check=False
    )
    assert {line.rsplit(":", 1)[-1] for line in listed.stdout.split()} == PROBES, listed.stderr


def test_bpftrace_sees_loads_swaps_and_refusals(bpftrace, gallery):
    object_file = gallery / "count_calls.bpf.o"
    arguments = [sys.executable, "-c", WORK, repr(CONFIG), str(object_file)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "loaded\n"
        file = f"usdt:{EXTENSION}:duckbpf"
        script = f"""
            BEGIN {{ printf("watching\\n"); }}
            {file}:load {{ printf("load %s %d\\n", str(arg0), arg2); }}
            {file}:swap {{ printf("swap %d %d\\n", arg0, arg1); }}
            {file}:refusal {{ printf("refusal %s\\n", str(arg0)); }}
        """
        with subprocess.Popen(
            [bpftrace, "-p", str(process.pid), "-e", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watch:
            lines = iter(watch.stdout.readline, "")
            if not any(line == "watching\n" for line in lines):
                process.communicate("\n")
                pytest.skip(f"SKIPPED: bpftrace cannot watch here: {watch.stderr.read()}")
            process.communicate("\n", timeout=60)
            # It ends with the process that it watches.
            seen = watch.communicate(timeout=60)[0].splitlines()
    # It counts calls of eleven hooks.
    assert "load count_calls 11" in seen
    assert "swap 1 11" in seen
    assert "swap 2 0" in seen
    assert any(line.startswith("refusal /nonexistent/missing.bpf.o") for line in seen), seen
