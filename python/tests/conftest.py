"""Each test begins and ends with nothing attached: the set belongs to the process."""

from collections.abc import Iterator

import duckdb
import pytest

import duckbpf


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of the official package; the extension is not loaded yet."""
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        yield connection
        duckbpf.load(connection).clear()


@pytest.fixture
def hooks(con: duckdb.DuckDBPyConnection) -> duckbpf.Hooks:
    return duckbpf.load(con)
