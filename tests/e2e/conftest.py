"""What the end-to-end tests share: a database with hooks, and looks at it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from official import CONFIG


class Database:
    """The official DuckDB with duckbpf loaded."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def one(self, sql: str) -> Any:
        ((value,),) = self(sql)
        return value

    def set(self, *objects: Path) -> None:
        """SET hook_program to exactly these."""
        self.connection.execute(f"SET hook_program = '{', '.join(map(str, objects))}'")

    def attached(self) -> list[str]:
        """Names of the programs that are attached."""
        return sorted({name for (name,) in self("SELECT name FROM hook_programs()")})

    def point(self, hook: str) -> dict[str, Any]:
        """A row of hook_points()."""
        cursor = self.connection.execute(f"FROM hook_points() WHERE hook = '{hook}'")
        names = [column[0] for column in cursor.description]
        (row,) = cursor.fetchall()
        return dict(zip(names, row, strict=True))

    def memory(self, tag: str) -> int:
        """Bytes that duckdb_memory() shows for a tag."""
        return int(self.one(f"SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = '{tag}'"))


@pytest.fixture
def db() -> Iterator[Database]:
    """A database in memory."""
    with duckdb.connect(config=CONFIG) as connection:
        connection.execute("LOAD duckbpf")
        yield Database(connection)


@pytest.fixture
def file_db(tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Opens a database in a file of the test's own folder."""
    opened: list[duckdb.DuckDBPyConnection] = []

    def open_file(name: str = "test.duckdb", **config: str) -> Database:
        connection = duckdb.connect(str(tmp_path / name), config={**CONFIG, **config})
        opened.append(connection)
        connection.execute("LOAD duckbpf")
        return Database(connection)

    yield open_file
    for connection in opened:
        connection.close()
