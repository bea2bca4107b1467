"""The SQL and Python that README and book print work as printed, one file after the other from its top."""

import os
import re
import shutil
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
        for name in ("README.md", "python/README.md", "docs/src/use.md", "docs/src/maps.md", "docs/src/python.md")
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
