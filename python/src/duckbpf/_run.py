"""Running somebody's script with the extension in every connection that it opens."""

import functools
import os
import runpy
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from duckbpf._hooks import load

Connect = Callable[..., duckdb.DuckDBPyConnection]


@dataclass(frozen=True)
class Options:
    """What is done once, at the first connection, and at the end."""

    attach: list[str] = field(default_factory=list)
    socket: str | None = None
    report: bool = False


def run(script: str, arguments: list[str], *, is_module: bool, options: Options) -> None:
    """Runs a script, or a module, as ``python script arguments...`` would."""
    hooked = _Hooked(duckdb.connect, options)
    # `import duckdb; duckdb.connect()` and `from duckdb import connect` both come by here; libraries do one or the other.
    duckdb.connect = hooked
    hooked.prepare(duckdb.default_connection())
    sys.argv = [script, *arguments]
    try:
        if is_module:
            sys.path.insert(0, os.getcwd())
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(script))
            runpy.run_path(script, run_name="__main__")
    finally:
        if options.report:
            hooked.report()


class _Hooked:
    """``duckdb.connect``, whose connections have the extension."""

    def __init__(self, connect: Connect, options: Options) -> None:
        functools.update_wrapper(self, connect)
        self._connect = connect
        self._options = options
        self._first = True
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any, **named: Any) -> duckdb.DuckDBPyConnection:
        connection = self._connect(*arguments, **named)
        try:
            self.prepare(connection)
        except duckdb.Error as error:
            # The script is not to fail for it: a database may forbid extensions for its own good reasons.
            warnings.warn(f"this connection has no hooks: {error}", RuntimeWarning, stacklevel=2)
        return connection

    def prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Loads the extension; at the first time does what was asked for."""
        hooks = load(connection)
        with self._lock:
            if not self._first:
                return
            self._first = False
            for program in self._options.attach:
                hooks.attach(program)
            if self._options.socket is not None:
                # A setting takes no parameters.
                path = os.path.abspath(self._options.socket).replace("'", "''")
                connection.cursor().execute(f"SET hook_socket = '{path}'")

    def report(self) -> None:
        """What the attached programs did."""
        with self._connect() as connection:
            for program in load(connection).programs():
                line = f"{program.name}: {program.hook}: {program.calls} calls, {program.applied} applied, {program.refused} refused"
                print(line, file=sys.stderr)
