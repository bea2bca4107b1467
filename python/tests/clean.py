"""Run by `cargo xtask test` where nothing but the official DuckDB and our wheel is installed: no compiler, no checkout, signatures on."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb

import duckbpf

assert shutil.which("cc") is None and shutil.which("clang-19") is None, "compilers are in sight"
assert duckdb.__version__ == "2.0.0"
assert Path(sys.prefix) in Path(duckbpf.__file__).parents, "the package is not the wheel's"

with duckdb.connect() as con:
    hooks = duckbpf.load(con)
    assert "count_calls" in duckbpf.gallery()
    hooks.attach("count_calls")
    con.execute("CREATE TABLE t AS SELECT range AS i FROM range(1000000)")
    calls = {key: sum(values) for key, values in hooks.maps["calls"].items()}
    assert sum(calls.values()) > 0, calls
    hooks.clear()

command = shutil.which("duckbpf")
assert command is not None and Path(sys.prefix) in Path(command).parents, command
for program in duckbpf.gallery().values():
    done = subprocess.run([command, "verify", "--json", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
ran = subprocess.run(
    [command, "prog", "run", str(duckbpf.gallery()["default_unpin"]), "--repeat", "1000"],
    capture_output=True,
    text=True,
)
assert ran.returncode == 0 and "1000 runs" in ran.stdout, ran.stdout + ran.stderr
print("the wheel works by itself")
