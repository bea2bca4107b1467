"""What a query about hooks gives back."""

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import duckdb


class Record(dict[str, Any]):
    """A row or a struct: a dict, whose entries are attributes too, and which can be a key of another dict.

    >>> record = Record(query_id=7, size=4096)
    >>> record["size"], record.size
    (4096, 4096)
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name!r}; there are {', '.join(map(str, self))}") from None

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple((name, _frozen(value)) for name, value in self.items()))

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self.items())})"


class Rows:
    """The rows of a result. Iterating gives each once, as a :class:`Record`; so do the other methods with what is left.

    What is not here is DuckDB's own: ``fetchnumpy()``, ``to_arrow_reader()`` and the other methods of its results.
    """

    def __init__(self, result: duckdb.DuckDBPyConnection) -> None:
        self._result = result

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [column[0] for column in self._result.description]

    def __iter__(self) -> Iterator[Record]:
        names = self.columns
        while rows := self._result.fetchmany(1000):
            for row in rows:
                yield Record(zip(names, map(plain, row), strict=True))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None behind the last one."""
        row: tuple[Any, ...] | None = self._result.fetchone()
        return row

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        rows: list[tuple[Any, ...]] = self._result.fetchall()
        return rows

    def df(self) -> Any:
        """A ``pandas.DataFrame``."""
        return self._result.df()

    def arrow(self) -> Any:
        """A ``pyarrow.Table``."""
        with warnings.catch_warnings():
            # Of a copy, which a relation would not make; but a relation may run a statement twice, and events come once.
            warnings.simplefilter("ignore", UserWarning)
            return self._result.to_arrow_table()

    def pl(self) -> Any:
        """A ``polars.DataFrame``."""
        return importlib.import_module("polars").from_arrow(self.arrow())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._result, name)


def plain(value: Any) -> Any:
    """A value as DuckDB gives it, with records where it has dicts."""
    if isinstance(value, dict):
        return Record((name, plain(inner)) for name, inner in value.items())
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def as_key(value: Any) -> Any:
    """The same, where it is a key: with tuples where DuckDB has lists."""
    if isinstance(value, dict):
        return Record((name, as_key(inner)) for name, inner in value.items())
    return _frozen(value)


def _frozen(value: Any) -> Any:
    return tuple(map(as_key, value)) if isinstance(value, list | tuple) else value
