"""What can go wrong. All are ``duckdb.Error``, so that whoever catches those catches these."""

import duckdb


class Error(duckdb.Error):
    """Something about hooks went wrong."""


class ExtensionMissing(Error):
    """This installation of the package does not carry the extension."""


class LoadError(Error):
    """DuckDB did not load the extension; the database works on without hooks."""


class ProgramMissing(Error):
    """The gallery has no program of that name."""


class ProgramError(Error):
    """A program was refused, or is not attached. What was attached before still is."""
