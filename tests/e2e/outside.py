"""Counts from outside, by uprobes, how often an untouched official DuckDB reaches the functions that the hooks stand in.

bpftrace plants the probes in the wheel's library; a child process runs the queries and marks begin and end of each by calling
two functions of the library that no query calls. Functions that the compiler inlined are counted by what their copies call,
and by who calls: each count is kept by return address.
"""

import bisect
import ctypes
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb

CONFIG = {"threads": "1", "async_threads": "1"}
"""One thread, so that counts repeat."""

_BEGIN = "_ZN6duckdb6DuckDB14LibraryVersionEv"
_END = "_ZN6duckdb6DuckDB8SourceIDEv"
_OURS = "pid == cpid"
"""Probes are planted in the file: every process that maps it reaches them."""


@dataclass(frozen=True)
class Probe:
    """Functions of the library (or one of libc), and whose calls of them count."""

    functions: str
    callers: str = ""
    libc: bool = False


_ACCOUNTING = "10BufferPool|21BufferPoolReservation|11BlockHandle|11BlockMemory|21StandardBufferManager"

PROBES = {
    "load": Probe(r"_ZN6duckdb11BlockHandle4LoadE"),
    "unpin": Probe(r"_ZN6duckdb21StandardBufferManager5UnpinE"),
    "allocate_new_block": Probe(r"_ZN6duckdb14ArenaAllocator16AllocateNewBlockE"),
    "schedule_task": Probe(r"_ZN6duckdb13TaskScheduler1[23]ScheduleTasks?E.*TaskSchedulerTypeE$"),
    "execute_forever": Probe(r"_ZN6duckdb12ExecutorTask7ExecuteE", callers="8Executor11ExecuteTask"),
    # The bloom filters' functions are static: what lies before them has the names that stand here.
    "hash": Probe(
        r"_ZN6duckdb16VectorOperations(4Hash|11CombineHash)E",
        callers="13JoinHashTable|25GroupedAggregateHashTable|17RowIdDeduplicator|20TableFilterFunctions4Bind|_Function_handler",
    ),
    # Inlined in many places; each copy that stays below 1 MiB asks for the CPU's number.
    "update_used_memory": Probe("sched_getcpu", callers=_ACCOUNTING, libc=True),
}


def library() -> Path:
    """The wheel's native library."""
    (path,) = Path(duckdb.__file__).parent.parent.glob("_duckdb*.so")
    return path


def missing() -> str | None:
    """What keeps this machine from counting, or None."""
    if not shutil.which("bpftrace"):
        return "bpftrace is not installed"
    trial = subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], capture_output=True, text=True)
    return None if trial.returncode == 0 else f"bpftrace does not work here: {trial.stderr.strip()[-200:]}"


class _Symbols:
    def __init__(self, path: Path) -> None:
        lines = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True)
        found = [line.split() for line in lines.stdout.splitlines()]
        self._sorted = sorted((int(row[0], 16), row[2]) for row in found if len(row) == 3 and row[1] in "TW")
        self._addresses = [address for address, _ in self._sorted]
        self.address = {name: address for address, name in self._sorted}

    def matching(self, pattern: str) -> list[str]:
        names = [name for name in self.address if re.match(pattern, name)]
        if not names:
            raise LookupError(f"the library exports nothing like {pattern}")
        return names

    def holding(self, address: int) -> str:
        return self._sorted[bisect.bisect_right(self._addresses, address) - 1][1]


def _script(symbols: _Symbols) -> str:
    lines = [
        "BEGIN { @query = 0; @inside = 0; }",
        f'uprobe:{library()}:{_BEGIN} /{_OURS}/ {{ @query = @query + 1; @inside = 1; @begin = reg("ip"); }}',
        f"uprobe:{library()}:{_END} /{_OURS}/ {{ @inside = 0; }}",
    ]
    for name, probe in PROBES.items():
        functions = [probe.functions] if probe.libc else symbols.matching(probe.functions)
        where = _libc() if probe.libc else library()
        for function in functions:
            # On entry the return address lies on top of the stack.
            count = f'@count_{name}[@query, *(uint64*)reg("sp")] = count();'
            lines.append(f"uprobe:{where}:{function} /{_OURS} && @inside == 1/ {{ {count} }}")
    return "\n".join(lines)


def _libc() -> Path:
    with open("/proc/self/maps") as maps:
        return next(Path(line.split()[-1]) for line in maps if "/libc.so" in line or "/libc-" in line)


def count(database: Path, queries: list[Path], folder: Path) -> list[Counter[str]]:
    """For each query, how often each hook's functions are reached."""
    symbols = _Symbols(library())
    script = folder / "outside.bt"
    script.write_text(_script(symbols))
    child = " ".join([sys.executable, __file__, str(database), *map(str, queries)])
    traced = subprocess.run(["bpftrace", script, "-c", child], capture_output=True, text=True, timeout=300)
    begin = re.search(r"@begin: (\d+)", traced.stdout)
    if not begin:
        raise RuntimeError(f"bpftrace counted nothing: {traced.stdout[-500:]} {traced.stderr[-1000:]}")
    base = int(begin[1]) - symbols.address[_BEGIN]
    counts: list[Counter[str]] = [Counter() for _ in queries]
    for name, query, address, n in re.findall(r"@count_(\w+)\[(\d+), (\d+)\]: (\d+)", traced.stdout):
        if re.search(PROBES[name].callers, symbols.holding(int(address) - base)):
            counts[int(query) - 1][name] += int(n)
    return counts


def _run_queries(database: str, queries: list[str]) -> None:
    native = ctypes.CDLL(str(library()))
    connection = duckdb.connect(database, read_only=True, config=CONFIG)
    connection.execute("SELECT 1").fetchall()
    for query in queries:
        sql = Path(query).read_text()
        getattr(native, _BEGIN)()
        connection.execute(sql).fetchall()
        getattr(native, _END)()


if __name__ == "__main__":
    _run_queries(sys.argv[1], sys.argv[2:])
