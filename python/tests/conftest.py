"""Each test begins and ends with nothing attached: the set belongs to the process. Signatures are on, and what DuckDB installs goes
into a home of the tests' own."""

import os
import tempfile
from collections.abc import Iterator

import duckdb
import pytest

import duckbpf

# For this process and those that it starts; DuckDB looks here for what is installed.
_HOME = tempfile.TemporaryDirectory()
os.environ["HOME"] = _HOME.name


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of the official package; the extension is not loaded yet."""
    with duckdb.connect() as connection:
        yield connection
        duckbpf.load(connection).clear()


@pytest.fixture
def hooks(con: duckdb.DuckDBPyConnection) -> duckbpf.Hooks:
    return duckbpf.load(con)
