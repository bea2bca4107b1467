"""The part of the official package `duckdb` that tests and the harness use, on a libduckdb of one's own, through ADBC.

With this folder first in PYTHONPATH and DUCKBPF_LIBRARY naming a libduckdb.so, the same scripts drive an engine that
drive the official wheel. Programs that are not tests have no need of it: docs/src/engine.md shows ADBC itself.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
from adbc_driver_manager import Error as AdbcError
from adbc_driver_manager import dbapi


class Error(Exception):
    """DuckDB refused."""


class InvalidInputException(Error):
    """An `Invalid Input Error`."""


class PermissionException(Error):
    """A `Permission Error`."""


class InterruptException(Error):
    """An `INTERRUPT Error`."""


class OutOfMemoryException(Error):
    """An `Out of Memory Error`."""


_KINDS = {
    "Invalid Input Error": InvalidInputException,
    "Permission Error": PermissionException,
    "INTERRUPT Error": InterruptException,
    "Out of Memory Error": OutOfMemoryException,
}


def _error(error: AdbcError) -> Error:
    text = str(error)
    # ADBC puts its own status before what DuckDB says.
    message = text.split(": ", 1)[1] if text.split(":", 1)[0].isupper() else text
    kind = next((kind for prefix, kind in _KINDS.items() if prefix in message[:200]), Error)
    return kind(message)


class DuckDBPyConnection:
    """A connection, with the result of what it executed last."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection
        self._cursor: dbapi.Cursor | None = None
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None

    def __enter__(self) -> "DuckDBPyConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> "DuckDBPyConnection":
        """Runs SQL to its end."""
        try:
            with self._connection.cursor() as cursor:
                self._cursor = cursor
                cursor.execute(sql, parameters or None)
                self.description = cursor.description
                table = cursor.fetch_arrow_table() if cursor.description is not None else None
        except AdbcError as error:
            raise _error(error) from None
        finally:
            self._cursor = None
        self._rows = _rows(table) if table is not None else iter(())
        return self

    sql = execute

    def fetchall(self) -> list[tuple[Any, ...]]:
        """What is left of the rows."""
        return list(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        return next(self._rows, None)

    def cursor(self) -> "DuckDBPyConnection":
        """Another connection to the same database."""
        return DuckDBPyConnection(self._connection.adbc_clone())

    def interrupt(self) -> None:
        """Ends what another thread executes here."""
        if self._cursor is not None:
            self._cursor.adbc_cancel()

    def close(self) -> None:
        """Gives the connection back."""
        self._connection.close()


def _rows(table: pyarrow.Table) -> Iterator[tuple[Any, ...]]:
    return iter(list(zip(*map(_values, table.columns), strict=True)))


def _values(column: pyarrow.ChunkedArray) -> list[Any]:
    if column.type == pyarrow.decimal128(38, 0):  # what Arrow makes of a HUGEINT
        return [None if value is None else int(value) for value in column.to_pylist()]
    return column.to_pylist(maps_as_pydicts="strict")


def connect(
    database: str = ":memory:", read_only: bool = False, config: dict[str, Any] | None = None
) -> DuckDBPyConnection:
    """Opens a database on the library that DUCKBPF_LIBRARY names."""
    options = {key: str(value) for key, value in (config or {}).items()}
    if read_only:
        options["access_mode"] = "read_only"
    try:
        connection = dbapi.connect(
            driver=os.environ["DUCKBPF_LIBRARY"],
            entrypoint="duckdb_adbc_init",
            db_kwargs={"path": str(database), **options},
            autocommit=True,
        )
    except AdbcError as error:
        raise _error(error) from None
    return DuckDBPyConnection(connection)
