"""Maps as Python mappings, and their rings as streams of events."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from duckbpf._rows import Rows, as_key, plain

Execute = Callable[..., Rows]


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
    """One map. Looked up by its name at every call, so it follows reloads.

    Keys and values are numbers and texts; a struct is a :class:`Record`, and may be given as any dict.
    """

    def __init__(self, execute: Execute, name: str) -> None:
        self._run = execute
        self.name = name

    def __repr__(self) -> str:
        return f"Map({self.name!r})"

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values; of a per-CPU map lists of values, of a queue ``None`` as keys."""
        rows = self.table().fetchall()
        return [(as_key(row[0]) if len(row) > 1 else None, plain(row[-1])) for row in rows]

    def keys(self) -> list[Any]:
        return [key for key, _ in self.items()]

    def values(self) -> list[Any]:
        return [value for _, value in self.items()]

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key."""
        wanted = as_key(key)
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

    def __contains__(self, key: object) -> bool:
        return as_key(key) in self.keys()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def update(self, key: Any, value: Any, *, mode: str = "any") -> None:
        """Sets a value. ``mode``: ``any``, ``noexist`` (only where there is none) or ``exist`` (only where there is one)."""
        self._run("CALL hook_map_update(?, ?, ?, mode := ?)", [self.name, key, value, mode])

    def push(self, value: Any) -> None:
        """Adds a value to a queue, a stack or a bloom filter."""
        self.update(None, value)

    def table(self) -> Rows:
        """Rows with the columns ``key`` and ``value``: ``.df()``, ``.arrow()``, ``.pl()``, ``.fetchall()``."""
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
        return [MapInfo(**row) for row in self._run("FROM hook_maps()")]

    def create(
        self,
        name: str,
        type: str,
        *,
        key: str | None = None,
        value: str | None = None,
        max_entries: int,
        inner: str | None = None,
    ) -> Map:
        """Makes a map that no program declares and that stays until :meth:`unpin`; programs that declare it use it.

        ``type``: ``hash``, ``array``, ``queue`` ... ``key``, ``value``: SQL types of fixed size, as ``hook_map_create`` takes them.
        ``inner``: for maps of maps, the name of a map that is like those in it.
        """
        named = {"key": key, "value": value, "inner": inner}
        given = {what: text for what, text in named.items() if text is not None}
        # A number is a UBIGINT as a literal, not as a parameter.
        types = "".join(f", {what} := ?" for what in given)
        self._run(
            f"CALL hook_map_create(?, ?{types}, max_entries := {int(max_entries)})", [name, type, *given.values()]
        )
        return Map(self._run, name)

    def unpin(self, name: str) -> None:
        """Forgets a map that is kept by its name: it goes with the last program that uses it."""
        self._run("CALL hook_map_unpin(?)", [name])
