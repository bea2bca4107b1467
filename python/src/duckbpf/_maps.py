"""Maps as Python mappings, and their rings as streams of events."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

Execute = Callable[..., duckdb.DuckDBPyConnection]


@dataclass(frozen=True)
class MapInfo:
    """What ``hook_maps()`` says of a map."""

    #: Its number in the process; 0: a section of a program's variables
    id: int
    name: str
    #: The program that declares it; None when it is pinned and its programs are detached
    owner: str | None
    #: As in ``BPF_MAP_TYPE_*``, in lower case
    type: str
    #: SQL types
    key_type: str | None
    value_type: str
    max_entries: int
    #: Entries that it holds; of a ring buffer, bytes that wait
    entries: int
    memory_bytes: int
    pinned: bool
    #: Ring buffers: records for which there was no room
    lost: int


class Map:
    """One map. Looked up by its name at every call, so it follows reloads."""

    def __init__(self, execute: Execute, name: str) -> None:
        self._run = execute
        self.name = name

    def __repr__(self) -> str:
        return f"Map({self.name!r})"

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values; of a per-CPU map lists of values, of a queue ``None`` as keys."""
        rows = self.table().fetchall()
        return [(None, row[0]) if len(row) == 1 else (_hashable(row[0]), row[1]) for row in rows]

    def keys(self) -> list[Any]:
        return [key for key, _ in self.items()]

    def values(self) -> list[Any]:
        return [value for _, value in self.items()]

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key: a number, text, or for a struct a dict."""
        wanted = _hashable(key)
        return next((value for found, value in self.items() if found == wanted), default)

    def __getitem__(self, key: Any) -> Any:
        missing = object()
        value = self.get(key, missing)
        if value is missing:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.update(key, value)

    def __delitem__(self, key: Any) -> None:
        self._run("CALL hook_map_delete(?, ?)", [self.name, key])

    def __len__(self) -> int:
        return len(self.items())

    def update(self, key: Any, value: Any, *, mode: str = "any") -> None:
        """Sets a value. ``mode``: ``any``, ``new`` (only where there is none) or ``present`` (only where there is one)."""
        self._run("CALL hook_map_update(?, ?, ?, mode := ?)", [self.name, key, value, mode])

    def push(self, value: Any) -> None:
        """Adds a value to a queue, a stack or a bloom filter."""
        self.update(None, value)

    def table(self) -> duckdb.DuckDBPyConnection:
        """A result with the columns ``key`` and ``value``: ``.df()``, ``.arrow()``, ``.fetchall()``."""
        return self._run("FROM hook_map_entries(?)", [self.name])


class Maps(Mapping[str, Map]):
    """All maps by name: ``hooks.maps["sizes"]``, or ``hooks.maps["program/sizes"]`` where several programs have one."""

    def __init__(self, execute: Execute) -> None:
        self._run = execute

    def __getitem__(self, name: str) -> Map:
        if not any(name in (info.name, f"{info.owner}/{info.name}") for info in self.info()):
            raise KeyError(name)
        return Map(self._run, name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(info.name for info in self.info()))

    def __len__(self) -> int:
        return len(set(iter(self)))

    def info(self) -> list[MapInfo]:
        """What there is, as ``hook_maps()`` says it."""
        cursor = self._run("FROM hook_maps()")
        names = [column[0] for column in cursor.description]
        return [MapInfo(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _hashable(key: Any) -> Any:
    """Structs come as dicts and arrays as lists, which are no keys of a dict."""
    if isinstance(key, dict):
        return tuple((name, _hashable(value)) for name, value in key.items())
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
