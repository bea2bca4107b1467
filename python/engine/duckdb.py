"""The part of the official package `duckdb` that tests and the harness use, on a libduckdb of one's own, through its C API.

With this folder first in PYTHONPATH and DUCKBPF_LIBRARY naming a libduckdb.so, the same scripts drive an engine that drive the official
wheel. A statement is one query, as it is there: ADBC would prepare it first and begin transactions of its own. Results are fetched whole.
Programs that are not tests have no need of it: docs/src/engine.md shows ADBC.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from ctypes import byref, c_bool, c_char_p, c_double, c_int, c_int64, c_uint64, c_void_p
from typing import Any

import pyarrow


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


class ConversionException(Error):
    """A `Conversion Error`."""


_KINDS = {
    "Invalid Input Error": InvalidInputException,
    "Permission Error": PermissionException,
    "INTERRUPT Error": InterruptException,
    "Out of Memory Error": OutOfMemoryException,
    "Conversion Error": ConversionException,
}


def _error(message: bytes | None) -> Error:
    text = (message or b"no reason was given").decode(errors="replace")
    return _KINDS.get(text.split(": ", 1)[0], Error)(text)


class _Result(ctypes.Structure):
    """duckdb_result: only the library looks into it."""

    _fields_ = [("words", c_void_p * 6)]


_OUT = ctypes.POINTER(c_void_p)
_RESULT = ctypes.POINTER(_Result)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "create_config": (c_int, [_OUT]),
    "set_config": (c_int, [c_void_p, c_char_p, c_char_p]),
    "destroy_config": (None, [_OUT]),
    "open_ext": (c_int, [c_char_p, _OUT, c_void_p, _OUT]),
    "free": (None, [c_void_p]),
    "close": (None, [_OUT]),
    "connect": (c_int, [c_void_p, _OUT]),
    "disconnect": (None, [_OUT]),
    "interrupt": (None, [c_void_p]),
    "query": (c_int, [c_void_p, c_char_p, _RESULT]),
    "prepare": (c_int, [c_void_p, c_char_p, _OUT]),
    "prepare_error": (c_char_p, [c_void_p]),
    "bind_null": (c_int, [c_void_p, c_uint64]),
    "bind_boolean": (c_int, [c_void_p, c_uint64, c_bool]),
    "bind_int64": (c_int, [c_void_p, c_uint64, c_int64]),
    "bind_double": (c_int, [c_void_p, c_uint64, c_double]),
    "bind_varchar": (c_int, [c_void_p, c_uint64, c_char_p]),
    "execute_prepared": (c_int, [c_void_p, _RESULT]),
    "destroy_prepare": (None, [_OUT]),
    "destroy_result": (None, [_RESULT]),
    "result_error": (c_char_p, [_RESULT]),
    "column_count": (c_uint64, [_RESULT]),
    "column_name": (c_char_p, [_RESULT, c_uint64]),
    "column_logical_type": (c_void_p, [_RESULT, c_uint64]),
    "destroy_logical_type": (None, [_OUT]),
    "result_get_arrow_options": (c_void_p, [_RESULT]),
    "destroy_arrow_options": (None, [_OUT]),
    "to_arrow_schema": (c_void_p, [c_void_p, _OUT, ctypes.POINTER(c_char_p), c_uint64, c_void_p]),
    "fetch_chunk": (c_void_p, [_Result]),
    "data_chunk_to_arrow": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "destroy_data_chunk": (None, [_OUT]),
    "error_data_message": (c_char_p, [c_void_p]),
    "destroy_error_data": (None, [_OUT]),
}
_ARROW_STRUCT = 128
"""Bytes that are enough for an ArrowSchema or an ArrowArray."""


class _Library:
    """The functions of a libduckdb that are used here, without their prefix."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = library[f"duckdb_{name}"]
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def check(self, error: int | None) -> None:
        """Raises and frees a duckdb_error_data."""
        if error:
            message = self.error_data_message(error)
            self.destroy_error_data(byref(c_void_p(error)))
            raise _error(message)


_library = functools.cache(_Library)


class _Database:
    """An open database, closed with its last connection."""

    def __init__(self, path: str, config: dict[str, str]) -> None:
        self.library = _library(os.environ["DUCKBPF_LIBRARY"])
        self._handle = c_void_p()
        self._lock = threading.Lock()
        self._connections = 0
        options, message = c_void_p(), c_void_p()
        self.library.create_config(byref(options))
        try:
            for name, value in config.items():
                if self.library.set_config(options, name.encode(), value.encode()):
                    raise InvalidInputException(f"{name} cannot be {value}")
            if self.library.open_ext(path.encode(), byref(self._handle), options, byref(message)):
                raise _error(ctypes.cast(message, c_char_p).value)
        finally:
            self.library.free(message)
            self.library.destroy_config(byref(options))

    def connect(self) -> c_void_p:
        connection = c_void_p()
        with self._lock:
            if self.library.connect(self._handle, byref(connection)):
                raise Error("the database cannot be connected to")
            self._connections += 1
        return connection

    def disconnect(self, connection: c_void_p) -> None:
        self.library.disconnect(byref(connection))
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self.library.close(byref(self._handle))


class DuckDBPyConnection:
    """A connection, with the result of what it executed last."""

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._library = database.library
        self._connection: c_void_p | None = database.connect()
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None

    def __enter__(self) -> "DuckDBPyConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "DuckDBPyConnection":
        """Runs SQL to its end."""
        if self._connection is None:
            raise Error("the connection is closed")
        result = _Result()
        try:
            if parameters:
                failed = self._execute_prepared(sql, parameters, result)
            else:
                failed = self._library.query(self._connection, sql.encode(), byref(result))
            if failed:
                raise _error(self._library.result_error(byref(result)))
            table = self._fetch(result)
        finally:
            self._library.destroy_result(byref(result))
        self.description = [(name,) for name in table.column_names]
        self._rows = _rows(table)
        return self

    sql = execute

    def _execute_prepared(self, sql: str, parameters: Sequence[Any], result: _Result) -> int:
        statement = c_void_p()
        try:
            if self._library.prepare(self._connection, sql.encode(), byref(statement)):
                raise _error(self._library.prepare_error(statement))
            for number, value in enumerate(parameters, 1):
                self._bind(statement, number, value)
            return self._library.execute_prepared(statement, byref(result))
        finally:
            self._library.destroy_prepare(byref(statement))

    def _bind(self, statement: c_void_p, number: int, value: Any) -> None:
        match value:
            case None:
                failed = self._library.bind_null(statement, number)
            case bool():
                failed = self._library.bind_boolean(statement, number, value)
            case int():
                failed = self._library.bind_int64(statement, number, value)
            case float():
                failed = self._library.bind_double(statement, number, value)
            case str():
                failed = self._library.bind_varchar(statement, number, value.encode())
            case _:
                raise TypeError(f"parameter {number} is a {type(value).__name__}")
        if failed:
            raise InvalidInputException(f"there is no parameter {number}")

    def _fetch(self, result: _Result) -> pyarrow.Table:
        options = c_void_p(self._library.result_get_arrow_options(byref(result)))
        try:
            schema = self._schema(result, options)
            batches = []
            while chunk := c_void_p(self._library.fetch_chunk(result)):
                try:
                    array = ctypes.create_string_buffer(_ARROW_STRUCT)
                    self._library.check(self._library.data_chunk_to_arrow(options, chunk, array))
                finally:
                    self._library.destroy_data_chunk(byref(chunk))
                batches.append(pyarrow.RecordBatch._import_from_c(ctypes.addressof(array), schema))
            if message := self._library.result_error(byref(result)):
                raise _error(message)
            return pyarrow.Table.from_batches(batches, schema)
        finally:
            self._library.destroy_arrow_options(byref(options))

    def _schema(self, result: _Result, options: c_void_p) -> pyarrow.Schema:
        count = self._library.column_count(byref(result))
        types = (c_void_p * count)(*(self._library.column_logical_type(byref(result), i) for i in range(count)))
        names = (c_char_p * count)(*(self._library.column_name(byref(result), i) for i in range(count)))
        schema = ctypes.create_string_buffer(_ARROW_STRUCT)
        try:
            self._library.check(self._library.to_arrow_schema(options, types, names, count, schema))
        finally:
            for number in range(count):
                self._library.destroy_logical_type(byref(c_void_p(types[number])))
        return pyarrow.Schema._import_from_c(ctypes.addressof(schema))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """What is left of the rows."""
        return list(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        return next(self._rows, None)

    def cursor(self) -> "DuckDBPyConnection":
        """Another connection to the same database."""
        return DuckDBPyConnection(self._database)

    def interrupt(self) -> None:
        """Ends what another thread executes here."""
        if self._connection is not None:
            self._library.interrupt(self._connection)

    def close(self) -> None:
        """Gives the connection back."""
        connection, self._connection = getattr(self, "_connection", None), None
        if connection is not None:
            self._database.disconnect(connection)


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
    return DuckDBPyConnection(_Database(str(database), options))
