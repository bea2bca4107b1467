"""Runs `*.test` files in the sqllogictest style that DuckDB uses, against the official wheel with duckbpf loaded.

    # a comment
    statement ok [connection]
    SET hook_program = '${GALLERY}/default_unpin.bpf.o'

    statement error
    SET hook_program = 'missing.bpf.o'
    ----
    part of the message, or <REGEX>:its pattern

    query TI [rowsort] [connection]
    SELECT hook, calls FROM hook_points()
    ----
    unpin	0

Columns of a result are separated by tabs; NULL is `NULL`, an empty text `(empty)`. Connections that are named share the
database. `${...}` stands for a folder: GALLERY, PROGRAMS (of tests/programs), TMP; or for the CARRIER. A loop (not nested):

    foreach name value value ...
    ... ${name} ...
    endloop
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from official import CONFIG


@dataclass
class Record:
    """A statement or query, with what is expected of it."""

    line: int
    kind: str
    arguments: list[str]
    sql: str
    expected: list[str] = field(default_factory=list)


class Failure(Exception):
    """A record did not behave as its file says."""


def run(file: Path, variables: Mapping[str, str]) -> None:
    """Runs a file, to its end or to the first record that fails."""
    main = duckdb.connect(config=CONFIG)
    main.execute("LOAD duckbpf")
    connections = {"": main}
    for record in parse(_substitute(file.read_text(), variables)):
        try:
            _check(record, connections)
        except Failure as failure:
            raise Failure(f"{file.name}:{record.line}: {failure}\n  {record.sql}") from None


def _substitute(text: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        text = text.replace("${" + name + "}", value)
    return text


def parse(text: str) -> Iterator[Record]:
    """The records of a file, loops unrolled."""
    lines = list(enumerate(text.splitlines(), 1))
    yield from _records(lines)


def _records(lines: list[tuple[int, str]]) -> Iterator[Record]:
    index = 0
    while index < len(lines):
        number, line = lines[index]
        start = index
        if not line.strip() or line.startswith("#"):
            index += 1
            continue
        kind, *arguments = line.split()
        if kind == "foreach":
            end = next(place for place, (_, text) in enumerate(lines) if place > start and text == "endloop")
            for value in arguments[1:]:
                body = lines[start + 1 : end]
                yield from _records([(place, _substitute(text, {arguments[0]: value})) for place, text in body])
            index = end + 1
            continue
        while index < len(lines) and lines[index][1].strip():
            index += 1
        if kind not in ("statement", "query"):
            raise Failure(f"line {number}: {kind!r} is neither statement nor query")
        body = [text for _, text in lines[start + 1 : index]]
        split = body.index("----") if "----" in body else len(body)
        yield Record(number, kind, arguments, "\n".join(body[:split]), body[split + 1 :])


def _check(record: Record, connections: dict[str, duckdb.DuckDBPyConnection]) -> None:
    mode, *rest = record.arguments
    sort = "rowsort" in rest
    names = [word for word in rest if word != "rowsort"] or [""]
    connection = connections.setdefault(names[0], connections[""].cursor())
    try:
        rows = [_row(row) for row in connection.execute(record.sql).fetchall()]
    except duckdb.Error as error:
        if record.kind == "statement" and mode == "error":
            return _check_message(record, str(error))
        raise Failure(f"failed: {error}") from None
    if record.kind == "statement":
        if mode == "error":
            raise Failure("succeeded, and an error was expected")
        return None
    expected = record.expected
    if sort:
        rows, expected = sorted(rows), sorted(expected)
    if rows != expected:
        raise Failure("gave\n    {}\n  instead of\n    {}".format("\n    ".join(rows), "\n    ".join(expected)))
    return None


def _check_message(record: Record, message: str) -> None:
    expected = "\n".join(record.expected)
    pattern = expected.removeprefix("<REGEX>:") if expected.startswith("<REGEX>:") else re.escape(expected)
    if not re.search(pattern, message, re.DOTALL):
        raise Failure(f"failed with\n    {message}\n  instead of\n    {expected}")


def _row(values: tuple[object, ...]) -> str:
    return "\t".join(map(_value, values))


def _value(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or "(empty)"
