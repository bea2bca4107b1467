"""Rows of target/bench/hooks.json that need a loaded graft: what a hookpoint costs inside the official wheel, and what loading a
program takes. `cargo xtask bench hooks` runs it: graft.py <extension> <file to write> <default program>..."""

import ctypes
import json
import sys
from pathlib import Path

import duckdb

RELOADS = 300
PASSES = 100_000
TURNS = 20
ROUNDS = 10
PHASES = ["read_ns", "parse_ns", "check_ns", "compile_ns", "quality_ns", "publish_ns"]


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def main(extension, out, programs):
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    con.execute(f"LOAD '{extension}'")
    # The library that LOAD opened: the same file is the same library.
    measure = ctypes.CDLL(extension).duckbpf_measure
    measure.restype, measure.argtypes = ctypes.c_uint64, [ctypes.c_uint64]

    def attach(program):
        con.execute(f"SET hook_program = '{program}'")

    def hookpoint():
        return min(measure(PASSES) for _ in range(ROUNDS)) / PASSES

    load = next(program for program in programs if program.name == "default_load.bpf.o")
    # By turns, so that whatever else the machine does falls on all of them.
    states = {
        "detached hookpoint": lambda: con.execute("SET hook_program = ''"),
        "attached hookpoint": lambda: attach(load),
        "hookpoint with statistics": lambda: con.execute("SET hook_sampling = true"),
    }
    fewest = dict.fromkeys(states, float("inf"))
    for _ in range(TURNS):
        for name, enter in states.items():
            enter()
            fewest[name] = min(fewest[name], hookpoint())
        con.execute("SET hook_sampling = false")
    rows = [{"name": name, "ours": ours, "unit": "ns"} for name, ours in fewest.items()]

    publish, reload = [], []
    for program in programs:
        attach(program)
        for _ in range(RELOADS):
            attach(program)
            phases = con.execute(f"SELECT {', '.join(PHASES)} FROM hook_programs()").fetchone()
            publish.append(phases[-1])
            reload.append(sum(phases))
        print(f"reload of {program.name}: p50 {quantile(reload[-RELOADS:], 0.5) / 1000:.1f} us", file=sys.stderr)
    for name, values in [("publish", publish), ("reload of a default program", reload)]:
        p50, p99 = quantile(values, 0.5) / 1000, quantile(values, 0.99) / 1000
        rows.append({"name": name, "ours": p50, "unit": "us", "p99": p99})
    Path(out).write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [Path(program) for program in sys.argv[3:]])
