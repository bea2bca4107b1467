"""eBPF for DuckDB: small verified programs steer the official ``duckdb`` package while it runs.

>>> import duckdb, duckbpf
>>> con = duckdb.connect()
>>> hooks = duckbpf.load(con)
>>> hooks.attach("unpin_drop_scanned")
>>> [program.name for program in hooks.programs()]
['unpin_drop_scanned']

The set of attached programs belongs to the process: every connection and every database in it sees and steers the same
one. Programs are named by their file, ``unpin_drop_scanned`` for ``unpin_drop_scanned.bpf.o``.
"""

from duckbpf._errors import Error, ExtensionMissing, LoadError, ProgramError, ProgramMissing
from duckbpf._files import gallery
from duckbpf._hooks import (
    Attached,
    Hooks,
    Instruction,
    Point,
    Program,
    Ran,
    Startup,
    Verified,
    attached,
    connect,
    load,
)
from duckbpf._install import install
from duckbpf._maps import Map, MapInfo, Maps
from duckbpf._rows import Record, Rows

__all__ = [
    "Attached",
    "Error",
    "ExtensionMissing",
    "Hooks",
    "Instruction",
    "LoadError",
    "Map",
    "MapInfo",
    "Maps",
    "Point",
    "Program",
    "ProgramError",
    "ProgramMissing",
    "Ran",
    "Record",
    "Rows",
    "Startup",
    "Verified",
    "attached",
    "connect",
    "gallery",
    "install",
    "load",
]
