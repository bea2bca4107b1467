"""Programs are swapped while queries run: no query is lost or wrong, none waits, and memory stays flat."""

import itertools
import os
import time
from pathlib import Path

import duckdb
import pytest

from clients import Clients, make_data, mappings, resident
from official import CONFIG

SWAPS = 10_000


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "swaps.duckdb"
    make_data(path)
    return path


def test_swaps_under_load_lose_nothing(data, gallery):
    connection = duckdb.connect(str(data), config={**CONFIG, "threads": "2"})
    connection.execute("LOAD duckbpf")
    swapper = connection.cursor()
    sets = [
        [gallery / f"{name}.bpf.o" for name in names]
        for names in (
            ("hash_wy",),
            ("unpin_drop_scanned", "default_load"),
            ("schedule_young_first",),
            ("default_hash",),
            ("default_execute_forever", "default_update_used_memory"),
            (),
        )
    ]
    statements = [f"SET hook_program = '{', '.join(map(str, paths))}'" for paths in sets]

    def swap(count: int) -> None:
        for statement in itertools.islice(itertools.cycle(statements), count):
            swapper.execute(statement)

    with Clients(connection, 4) as clients:
        swap(SWAPS // 5)
        memory, maps, files = resident(), mappings(), len(os.listdir("/proc/self/fd"))
        began = time.monotonic()
        swap(SWAPS - SWAPS // 5)
        took = time.monotonic() - began
        grown = resident() - memory, mappings() - maps, len(os.listdir("/proc/self/fd")) - files
    print(f"{SWAPS} swaps, {(SWAPS - SWAPS // 5) / took:.0f} a second beside {clients.done} queries; grown: {grown}")
    assert clients.wrong == []
    assert clients.done > 20
    assert took < 120
    assert grown[0] < 64 << 20
    assert grown[1] < 200
    assert grown[2] < 10


def test_two_hashes_in_a_tight_loop(data, gallery):
    """Joins, aggregations, windows and spilling queries, while the hash under them changes all the time."""
    connection = duckdb.connect(str(data), config={**CONFIG, "threads": "4", "memory_limit": "60MB"})
    connection.execute("LOAD duckbpf")
    swapper = connection.cursor()
    hashes = [gallery / "hash_wy.bpf.o", gallery / "default_hash.bpf.o"]
    deadline = time.monotonic() + 15
    swaps = 0
    with Clients(connection, 3) as clients:
        while time.monotonic() < deadline:
            swapper.execute(f"SET hook_program = '{hashes[swaps % 2]}'")
            swaps += 1
    assert clients.wrong == []
    assert clients.done > 5
    assert swaps > 100
    ((keys,),) = connection.execute("SELECT keys FROM hook_points() WHERE hook = 'hash'").fetchall()
    assert keys > 1_000_000
