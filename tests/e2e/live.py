"""Reads the variables of tests/programs/live.bpf.c out of this process, wherever the runtime put them."""

import ctypes
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields

_COOKIE = 0x6475636B62706621
_MASK = (1 << 64) - 1
_STEP = mmap.PAGESIZE


@dataclass(frozen=True)
class Live:
    """As `struct live` in the program, after its two marks."""

    memory_updates: int
    small_memory_updates: int
    memory_delta: int
    base_table_delta: int
    hash_table_delta: int
    loads: int
    misses: int
    unpins: int
    unpins_by_last_reader: int
    arena_chunks: int
    tasks: int
    with_query_id: int
    without_query_id: int
    database_ids_or: int


class Variables:
    """The variables of the attached program, found once. The program must have been called before."""

    def __init__(self) -> None:
        found = _find()
        if len(found) != 1:
            raise LookupError(f"{len(found)} places look like live.bpf.c's variables, instead of one")
        (self._address,) = found

    def read(self) -> Live:
        count = len(fields(Live))
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(self._address + 16)
            return Live(*struct.unpack(f"<{count}q", memory.read(8 * count)))


def _find() -> list[int]:
    """Addresses of the cookie where its complement, which only a running program writes, follows."""
    cookie, alive = struct.pack("<Q", _COOKIE), struct.pack("<Q", ~_COOKIE & _MASK)
    found = []
    # One buffer, outside of Python's heap, that is not searched: what is read into it must not be found again.
    with mmap.mmap(-1, _STEP) as buffer, open("/proc/self/mem", "rb", buffering=0) as memory:
        own = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        for start in _chunks(own):
            memory.seek(start)
            try:
                length = memory.readinto(buffer)
            except OSError:
                continue
            place = buffer.find(cookie, 0, length)
            while place >= 0:
                if buffer[place + 8 : place + 16] == alive:
                    found.append(start + place)
                place = buffer.find(cookie, place + 1, length)
    return found


def _chunks(own: int) -> Iterator[int]:
    """Where to read, a step at a time: all memory that can be written to, except the buffer itself."""
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        span, rights, *_ = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw"):
            pages = range(start, end, mmap.PAGESIZE)
            yield from (page for page in pages if not own <= page < own + _STEP)
