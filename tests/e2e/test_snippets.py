"""The SQL and Python that README and book print work as printed, one file after the other from its top."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "python" / "README.md", ROOT / "docs" / "src" / "use.md")
    if page.exists()
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sql(page, folder):
    snippets = blocks(page, "sql")
    if not snippets:
        pytest.skip(f"{page.name} has no SQL")
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        for snippet in snippets:
            for statement in connection.extract_statements(snippet):
                connection.execute(statement).fetchall()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python(page, folder):
    snippets = blocks(page, "python")
    if not snippets:
        pytest.skip(f"{page.name} has no Python")
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(["import duckdb", *snippets])], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
