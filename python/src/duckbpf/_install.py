"""Installing the extension with signatures on, from the signed repository that travels in the package."""

import filecmp
import json
from pathlib import Path
from typing import Any

import duckdb

from duckbpf import _files
from duckbpf._errors import ExtensionMissing, LoadError

NAME = "duckbpf"
"""The repository's name in DuckDB, and the extension's."""

_PEM = ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")


def install(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the package's repository known to DuckDB and installs the extension from it, where that was not done before.

    From then on ``LOAD duckbpf FROM duckbpf`` works in every database of the user, with signatures on. DuckDB keeps the
    repository's key in ``~/.duckdb/extension_repositories`` and trusts it for extensions from this repository only. It asks for
    the setting ``allow_extension_repositories``; where that is undecided it is set to ``allowed`` in this database instance.
    """
    repository = _files.repository()
    extension = _files.extension()
    if repository is None:
        raise ExtensionMissing(
            "this package was built without a signed extension. In duckbpf's sources run `cargo xtask wheel` and install what "
            'it makes; or open the connection with config={"allow_unsigned_extensions": "true"}'
        )
    cursor = connection.cursor()
    keys = [
        _compact(key)
        for key in json.loads((repository / ".well-known" / "duckdb-extension-repo.json").read_text())["signature_keys"]
    ]
    if not _is_known(cursor, str(repository), keys):
        _allow(cursor)
        given = ", ".join(_literal(key) for key in keys)
        cursor.execute(
            f"CREATE OR REPLACE EXTENSION REPOSITORY {NAME} WITH PREFIX {_literal(str(repository))} USING PUBLIC KEYS {given}"
        )
    installed = _installed(cursor)
    if not installed.is_file():
        cursor.execute(f"INSTALL {NAME} FROM {NAME}")
    elif not filecmp.cmp(installed, extension, shallow=False):
        cursor.execute(f"FORCE INSTALL {NAME} FROM {NAME}")


def load(connection: duckdb.DuckDBPyConnection) -> None:
    """Installs where needed, and loads."""
    install(connection)
    connection.cursor().execute(f"LOAD {NAME} FROM {NAME}")


def unsigned_allowed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the database takes extensions that nobody signed."""
    return bool(_setting(connection.cursor(), "allow_unsigned_extensions"))


def _is_known(cursor: duckdb.DuckDBPyConnection, prefix: str, keys: list[str]) -> bool:
    sql = "SELECT prefix, public_keys FROM duckdb_extension_repositories() WHERE repository_name = ?"
    return cursor.execute(sql, [NAME]).fetchone() == (prefix, keys)


def _allow(cursor: duckdb.DuckDBPyConnection) -> None:
    access = _setting(cursor, "allow_extension_repositories")
    if access == "forbidden":
        raise LoadError("this database forbids extension repositories (allow_extension_repositories)")
    if access == "undecided":
        cursor.execute("SET allow_extension_repositories = 'allowed'")


def _installed(cursor: duckdb.DuckDBPyConnection) -> Path:
    """Where DuckDB puts an extension of a user's repository (src/main/extension/extension_load.cpp)."""
    folder = _setting(cursor, "extension_directory") or "~/.duckdb/extensions"
    place = _files.PLACE
    return Path(folder).expanduser() / place.parent / "repositories" / NAME / place.name


def _setting(cursor: duckdb.DuckDBPyConnection, name: str) -> Any:
    row = cursor.execute(f"SELECT current_setting('{name}')").fetchone()
    return row[0] if row else None


def _compact(pem: str) -> str:
    """A key as DuckDB keeps it: the letters between the lines that say what it is."""
    for line in _PEM:
        pem = pem.replace(line, "")
    return "".join(pem.split())


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
