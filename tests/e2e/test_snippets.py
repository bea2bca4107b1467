"""The SQL and Python that README and book print work as printed, one file after the other from its top."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from official import CONFIG, ROOT

PAGES = [
    page
    for page in (
        ROOT / name
        for name in (
            "README.md",
            "python/README.md",
            "extensions-c/README.md",
            "docs/src/use.md",
            "docs/src/maps.md",
            "docs/src/python.md",
            "docs/src/policies.md",
            "docs/src/hooks/file_read.md",
        )
    )
    if page.exists()
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


@pytest.fixture
def folder(tmp_path, gallery, monkeypatch) -> Path:
    """Where a reader would be: the gallery's objects and a program of their own at hand."""
    shutil.copytree(gallery, tmp_path / "target" / "bpf")
    for own in ("my_policy", "new"):
        shutil.copy(gallery / "default_load.bpf.o", tmp_path / f"{own}.bpf.o")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", with_blocks("sql"), ids=lambda page: str(page.relative_to(ROOT)))
def test_sql(page, folder):
    with duckdb.connect(config=CONFIG) as connection:
        connection.execute("LOAD duckbpf")
        for snippet in blocks(page, "sql"):
            for statement in connection.extract_statements(snippet):
                connection.execute(statement).fetchall()


@pytest.mark.parametrize("page", with_blocks("python"), ids=lambda page: str(page.relative_to(ROOT)))
def test_python(page, folder):
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(["import duckdb", *blocks(page, "python")])],
        # What the package installs goes into a home of the test's own.
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


PROGRAMS = [page for page in sorted(ROOT.glob("extensions-c/*/README.md")) if blocks(page, "sql")]


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.parent.name)
def test_the_sql_of_a_programs_page(page, db, folder):
    (text,) = blocks(page, "sql")
    if "hook_program" not in text and "hook_attach" not in text:
        db(f"CALL hook_attach('{page.parent.name}')")
    for statement in db.connection.extract_statements(text):
        db.connection.execute(statement).fetchall()


def test_the_page_on_writing_a_policy(db, folder):
    """Its C, compiled by its command, attached by its SQL."""
    page = ROOT / "docs" / "src" / "writing.md"
    (program,), (command,), (sql,) = (blocks(page, language) for language in ("c", "sh", "sql"))
    (folder / "pass_by.bpf.c").write_text(program)
    for headers in ("extensions-c", "hook-shim"):
        (folder / headers).symlink_to(ROOT / headers)
    subprocess.run(["sh", "-euc", command], check=True)
    db(sql)
    assert db.attached() == ["pass_by"]


def test_the_page_on_the_socket(db, tmp_path):
    """Requests get the answers that are printed; generations differ."""
    page = ROOT / "docs" / "src" / "socket.md"
    (sql,) = blocks(page, "sql")
    db(sql.replace("/run/user/1000", str(tmp_path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "duckbpf.sock"))
        lines = client.makefile("rw")
        for exchange in blocks(page, "json"):
            request, printed = exchange.splitlines()
            lines.write(request + "\n")
            lines.flush()
            answer, told = json.loads(lines.readline()), json.loads(printed)
            if "ok" in told:
                told["ok"]["generation"] = answer["ok"]["generation"]
            assert answer == told
