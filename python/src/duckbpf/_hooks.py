"""Loading the extension and steering what is attached."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

import duckdb

from duckbpf import _files, _install
from duckbpf._errors import Error, LoadError, ProgramError
from duckbpf._maps import Maps
from duckbpf._rows import Rows

Source = str | os.PathLike[str]
"""A program: a name of the gallery, or the path of an object."""


@dataclass(frozen=True)
class Point:
    """A hookpoint. Counts begin with the process and go on over all programs that were attached."""

    hook: str
    #: ``observer``, ``decider`` or ``transformer``
    class_: str
    #: How the hookpoints came into DuckDB: ``graft`` or ``engine``
    carrier: str
    #: The attached program
    program: str | None
    #: The change of the set that attached it; 0 without a program
    generation: int
    #: Of programs; for ``hash``, vectors
    calls: int
    #: Decisions that DuckDB followed
    applied: int
    #: Decisions that DuckDB did not follow
    refused: int
    #: The same by reason
    refusals: dict[str, int]
    #: For ``hash``, keys
    keys: int
    #: Calls that were timed, and their time: 0 unless ``hook_sampling`` was on
    timed_calls: int
    timed_ns: int


@dataclass(frozen=True)
class Program:
    """An attached program. Counts begin when it was attached; sizes are bytes, times nanoseconds."""

    #: Its number in the process
    id: int
    #: The object's name, which :meth:`Hooks.detach` takes
    name: str
    path: str
    #: The function in the object
    entry: str
    #: Of its bytecode and constants
    tag: str
    hook: str
    generation: int
    #: In UTC
    loaded_at: datetime
    #: Instructions; those with 64-bit constants count twice
    insns: int
    calls: int
    applied: int
    refused: int
    refusals: dict[str, int]
    keys: int
    #: Calls that were timed, and their time: 0 unless ``hook_sampling`` is on
    timed_calls: int
    timed_ns: int
    #: Of all calls, judged by those that were timed
    run_time_ns: int
    bytecode_bytes: int
    machine_code_bytes: int
    #: The most instructions that one call can execute
    worst_cost: int
    read_ns: int
    parse_ns: int
    check_ns: int
    compile_ns: int
    quality_ns: int
    publish_ns: int


@dataclass(frozen=True)
class Attached:
    """What :meth:`Hooks.attach` did."""

    name: str
    generation: int
    hooks: list[str]
    #: Programs that it took the place of
    displaced: list[str]


@dataclass(frozen=True)
class Verified:
    """A program that could be attached."""

    name: str
    path: str
    license: str | None
    entry: str
    tag: str
    hook: str
    #: Declared by ``SEC("?...")``: attached only when asked for
    optional: bool
    instructions: int
    worst_cost: int
    bytecode_bytes: int
    machine_code_bytes: int
    read_ns: int
    parse_ns: int
    check_ns: int
    compile_ns: int
    quality_ns: int


@dataclass(frozen=True)
class Ran:
    """How a program ran."""

    name: str
    entry: str
    hook: str
    #: Of the last run
    result: int
    repeat: int
    total_ns: int
    mean_ns: float


@dataclass(frozen=True)
class Instruction:
    """One instruction of a program, and the machine code that it became."""

    #: The function in the object
    entry: str
    hook: str
    pc: int
    #: As text
    instruction: str
    #: File, line and text of the C that it came from, where the object was compiled with ``-g``
    source: str | None
    #: Bytes from the beginning of the program's machine code
    machine_offset: int
    #: Hexadecimal digits
    machine_code: str


@dataclass(frozen=True)
class Startup:
    """What the startup file did when the extension was loaded."""

    file: str | None
    #: ``none``, ``attached``, ``failed`` or ``detached``
    state: str
    #: Why it failed, or nothing was attached
    reason: str | None


_Row = TypeVar("_Row", Point, Program, Attached, Verified, Ran, Instruction, Startup)


class Hooks:
    """The hooks of the process, reached through a connection. Made by :func:`load`.

    The connection's own results and transactions are left alone: every method works through a cursor of it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def attach(self, program: Source, /, *, replace: bool = False, **params: bool | int | float | str) -> Attached:
        """Attaches a program beside the others.

        ``replace``: programs that hold a hook it needs, or have its name, give way; else that is an error.
        ``params``: constants of the program (``const volatile`` variables) that are set for this load.
        """
        path = _literal(str(_files.program(program)))
        struct = ", ".join(f'"{name}": {_constant(value)}' for name, value in params.items())
        given = f", params := {{{struct}}}" if params else ""
        (row,) = self._rows(Attached, f"CALL hook_attach({path}, replace := {'true' if replace else 'false'}{given})")
        return row

    def detach(self, name: str | None = None, *, hook: str | None = None) -> None:
        """Detaches a program by its name, or by a hook that it is on: all its programs."""
        self._execute("CALL hook_detach(?, hook := ?)", [name, hook])

    def set(self, *programs: Source) -> None:
        """Attaches exactly these, all or none, in one step; files are read anew."""
        paths = ", ".join('"' + str(_files.program(program)).replace('"', '""') + '"' for program in programs)
        self._execute(f"SET hook_program = {_literal(paths)}")

    def clear(self) -> None:
        """Detaches everything."""
        self.set()

    def verify(self, program: Source) -> list[Verified]:
        """Reads, checks and compiles a program, and attaches nothing. One entry for each of its hooks."""
        return self._rows(Verified, f"CALL hook_verify({_literal(str(_files.program(program)))})")

    def run(
        self, program: Source, context: Mapping[str, Any] | None = None, *, hook: str | None = None, repeat: int = 1
    ) -> Ran:
        """Runs a program on a context that is made up; nothing follows the result.

        ``program``: the name of an attached one, which works with its own maps; else one of the gallery or a path, with
        maps made for this. ``context``: the fields by name, 0 where none is given. ``hook``: which of its programs.
        """
        named = {"context": dict(context) if context else None, "hook": hook}
        given = {name: value for name, value in named.items() if value is not None}
        # A number is a UBIGINT as a literal, not as a parameter.
        arguments = "".join(f", {name} := ?" for name in given) + f", repeat := {int(repeat)}"
        path = program if isinstance(program, str) else os.path.abspath(program)
        (row,) = self._rows(Ran, f"FROM hook_run(?{arguments})", [path, *given.values()])
        return row

    def programs(self) -> list[Program]:
        """What is attached."""
        return self._rows(Program, "FROM hook_programs()")

    @property
    def maps(self) -> Maps:
        """The maps of attached programs, by name."""
        return Maps(self._execute)

    def events(self, ring: str) -> Rows:
        """Takes the records out of a ring buffer, each once: by iterating, ``.df()``, ``.arrow()``, ``.pl()``, ``.fetchall()``."""
        return self._execute("FROM hook_events(?)", [ring])

    def points(self) -> list[Point]:
        """All hookpoints."""
        return self._rows(Point, "FROM hook_points()")

    def disassembly(self, name: Source) -> list[Instruction]:
        """Bytecode and machine code of an attached program, of one of the gallery, or of a file."""
        path = name if isinstance(name, str) else os.path.abspath(name)
        return self._rows(Instruction, "FROM hook_disassembly(?)", [path])

    def tags(self) -> dict[int, str]:
        """The tags that queries have had, by the numbers by which programs know them (``origin.tag``)."""
        return dict(self._execute("FROM hook_tags()").fetchall())

    def startup(self, *, retry: bool = False) -> Startup:
        """What the startup file did. ``retry``: attach its programs now, also after a crash."""
        (row,) = self._rows(Startup, "FROM hook_startup(retry := ?)", [retry])
        return row

    @contextmanager
    def attached(self, *programs: Source, replace: bool = False) -> Iterator["Hooks"]:
        """Attaches programs for the length of a ``with`` block.

        Afterwards they are detached, and those that gave way to them are attached again, with the constants of their files.
        """
        paths = {program.name: program.path for program in self.programs()}
        mine: list[Attached] = []
        try:
            for program in programs:
                mine.append(self.attach(program, replace=replace))
            yield self
        finally:
            names = {done.name for done in mine}
            for name in names & {program.name for program in self.programs()}:
                self.detach(name)
            displaced = {name: None for done in mine for name in done.displaced if name in paths}
            for name in displaced:
                self.attach(paths[name])

    def _rows(self, kind: type[_Row], sql: str, parameters: list[Any] | None = None) -> list[_Row]:
        wanted = [field.name for field in fields(kind)]
        rows = self._execute(sql, parameters)
        # class_ is a column named class.
        return [kind(**{name: row[name.rstrip("_")] for name in wanted}) for row in rows]

    def _execute(self, sql: str, parameters: list[Any] | None = None) -> Rows:
        cursor = self._connection.cursor()
        try:
            return Rows(cursor.execute(sql, parameters))
        except duckdb.InvalidInputException as error:
            raise ProgramError(_message(error)) from error


def load(connection: duckdb.DuckDBPyConnection) -> Hooks:
    """Loads the extension into the connection's database and returns its hooks. Again is as good as once.

    The extension is installed from the signed repository in this package first (:func:`install`), so signatures stay on. A
    package that was built without signing needs a connection with ``config={"allow_unsigned_extensions": "true"}``.
    """
    try:
        if _files.repository() is None and _install.unsigned_allowed(connection):
            connection.cursor().execute(f"LOAD {_literal(str(_files.extension()))}")
        else:
            # Never both ways in one process: two copies of the extension would be two runtimes.
            _install.load(connection)
    except Error:
        raise
    except duckdb.Error as error:
        raise LoadError(_message(error)) from error
    return Hooks(connection)


def connect(
    database: str | os.PathLike[str] = ":memory:", *, config: dict[str, Any] | None = None, **options: Any
) -> duckdb.DuckDBPyConnection:
    """``duckdb.connect`` with the extension loaded."""
    connection = duckdb.connect(str(database), config=config or {}, **options)
    try:
        load(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, *programs: Source, replace: bool = False) -> Iterator[Hooks]:
    """Loads the extension where needed and attaches programs for the length of a ``with`` block.

    >>> with duckbpf.attached(con, "unpin_drop_scanned"):
    ...     con.sql("FROM lineitem").df()
    """
    with load(connection).attached(*programs, replace=replace) as hooks:
        yield hooks


def _constant(value: bool | int | float | str) -> str:
    # SQL says what is wrong with NULL.
    if value is None:
        return "NULL"
    return _literal(value) if isinstance(value, str) else repr(value).lower()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _message(error: duckdb.Error) -> str:
    # DuckDB puts the error's class in front of what the runtime said, and the place in the statement, which is ours, behind it.
    return str(error).removeprefix("Invalid Input Error: ").split("\n\nLINE ")[0]
