"""Many threads swap programs at once beside queries that spill: seconds here, `cargo xtask stress --minutes 10` for longer."""

import itertools
import os
import time
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from clients import Clients, Threads, make_data, mappings, resident
from official import CONFIG

SECONDS = float(os.environ.get("DUCKBPF_STRESS_SECONDS", "10"))
SWAPPERS = 4
CLIENTS = 3


class Swappers(Threads):
    """Threads that attach, replace and detach, each on a connection and in an order of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, programs: list[Path]) -> None:
        super().__init__(connection, SWAPPERS)
        self.done: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._programs = programs

    def _statements(self, offset: int) -> list[str]:
        first, second = (self._programs[(offset + step) % len(self._programs)] for step in (0, 7))
        return [
            f"SET hook_program = '{first}'",
            f"CALL hook_attach('{second}', replace := true)",
            f"CALL hook_detach('{first.name.removesuffix('.bpf.o')}')",
            "RESET hook_program",
        ]

    def _run(self, connection: duckdb.DuckDBPyConnection, number: int) -> None:
        for offset in itertools.count(number * 3):
            for statement in self._statements(offset):
                if self._stop.is_set():
                    return
                outcome = "done"
                try:
                    connection.execute(statement).fetchall()
                except duckdb.Error as error:
                    # Another thread was faster.
                    outcome = "not attached" if "attached" in str(error) else f"{statement}: {error}"
                with self._lock:
                    self.done[outcome] += 1
                    if outcome not in ("done", "not attached"):
                        self.unexpected.append(outcome)


def code_pages() -> set[str]:
    """Executable pages of programs."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[0] for line in lines if "duckbpf-code" in line and "x" in line.split()[1]}


@pytest.mark.timeout(SECONDS + 280)
def test_swaps_from_many_threads(tmp_path, gallery):
    make_data(tmp_path / "stress.duckdb")
    config = {**CONFIG, "threads": "4", "memory_limit": "60MB", "temp_directory": str(tmp_path)}
    connection = duckdb.connect(str(tmp_path / "stress.duckdb"), config=config)
    connection.execute("LOAD duckbpf")
    programs = sorted(gallery.glob("*.bpf.o"))
    with Clients(connection, CLIENTS) as clients, Swappers(connection, programs) as swappers:
        time.sleep(SECONDS / 4)
        memory, maps, files = resident(), mappings(), len(os.listdir("/proc/self/fd"))
        time.sleep(SECONDS * 3 / 4)
        grown = resident() - memory, mappings() - maps, len(os.listdir("/proc/self/fd")) - files
    print(f"{SECONDS:.0f} s: {dict(swappers.done)} swaps beside {clients.done} queries; grown: {grown}")
    assert swappers.unexpected == []
    assert clients.wrong == []
    assert swappers.done["done"] > 10 * SECONDS
    assert clients.done > SECONDS / 2
    assert grown[0] < 64 << 20
    assert grown[1] < 200
    assert grown[2] < 10
    connection.execute("RESET hook_program")
    old, detached = code_pages(), time.monotonic()
    while code_pages() & old:
        assert time.monotonic() < detached + 1, "old code is still mapped"
