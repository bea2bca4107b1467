"""The book's reference of SQL says what there is: functions, arguments, columns and settings; and their examples run."""

import re
import shutil

import pytest

from official import ROOT

PAGE = ROOT / "docs" / "src" / "sql.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \|", re.MULTILINE)


def sections() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By function: its arguments as the heading has them, and its columns."""
    parts = re.findall(r"^### (\w+)\((.*?)\)\n(.*?)(?=^##)", PAGE.read_text() + "\n##", re.DOTALL | re.MULTILINE)
    return {name: (arguments, ROW.findall(text)) for name, arguments, text in parts}


@pytest.fixture
def examples(db, gallery, tmp_path, monkeypatch) -> dict[str, str]:
    """By function, with what they speak of at hand."""
    shutil.copy(gallery / "default_load.bpf.o", tmp_path / "new.bpf.o")
    monkeypatch.chdir(tmp_path)
    for name, key in (("limits", "UBIGINT"), ("sizes", "UBIGINT")):
        db(f"CALL hook_map_create('{name}', 'hash', key := '{key}', value := 'UBIGINT', max_entries := 10)")
    db("CALL hook_attach('trace_load')")
    found = db("SELECT function_name, examples[1] FROM duckdb_functions() WHERE function_name LIKE 'hook%'")
    return dict(found)


def test_every_function_has_its_columns(db, examples):
    assert sections().keys() == examples.keys()
    for name, (_, columns) in sections().items():
        statement = re.sub(r"^(CALL|FROM) ", "DESCRIBE FROM ", examples[name])
        described = [(column, kind) for column, kind, *_ in db(statement)]
        assert columns == described or name in ("hook_map_entries", "hook_events"), name


def test_every_function_has_its_arguments(db):
    for name, (arguments, _) in sections().items():
        told = [argument.split(" :=")[0] for argument in arguments.split(", ") if argument]
        (found,) = db(f"SELECT parameters FROM duckdb_functions() WHERE function_name = '{name}'")
        assert sorted(told) == sorted(found[0]), name


def test_every_setting(db):
    told = {name: default.strip("`'") for name, default in ROW.findall(PAGE.read_text().split("\n## What")[0])}
    assert told == dict(db("SELECT name, value FROM duckdb_settings() WHERE name LIKE 'hook%'"))


def test_examples_run(db, examples):
    last = ["hook_map_delete", "hook_map_unpin", "hook_detach"]
    db("CALL hook_map_unpin('limits')")
    order = [
        "hook_map_create",
        "hook_map_update",
        *sorted(examples.keys() - {"hook_map_create", "hook_map_update", *last}),
        *last,
    ]
    assert sorted(order) == sorted(examples)
    for name in order:
        db(examples[name])
