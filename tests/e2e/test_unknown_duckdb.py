"""A DuckDB that is not known: a clear message, and it works on as before."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from official import EXTENSION, ROOT

OTHER_PYTHON = ROOT / "target" / "venv-other" / "bin" / "python"
SCRIPT = """
import duckdb
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
try:
    con.execute("LOAD '%s'")
except duckdb.Error as error:
    print("refused:", error)
print("works:", con.execute("SELECT sum(i) FROM range(100000) t(i)").fetchone())
"""


@pytest.fixture
def script() -> str:
    return SCRIPT % EXTENSION


def test_another_version(script):
    if not OTHER_PYTHON.exists():
        pytest.skip(f"{OTHER_PYTHON} is missing; cargo xtask test makes it")
    ended = subprocess.run([OTHER_PYTHON, "-c", script], capture_output=True, text=True, check=False)
    assert re.search(r"refused: .*v2\.0\.0", ended.stdout, re.DOTALL), ended
    assert "works: (4999950000,)" in ended.stdout


def test_another_build_of_the_same_version(script, tmp_path):
    library = Path(importlib.util.find_spec("_duckdb").origin)
    packages = library.parent
    for name in ("duckdb", "_duckdb"):
        source = packages / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
    copy = tmp_path / library.relative_to(packages)
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(library, copy)
    build_id = _flip_build_id(copy)

    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "refused: " in ended.stdout and build_id in ended.stdout, ended
    assert "works: (4999950000,)" in ended.stdout


def _flip_build_id(library: Path) -> str:
    """Changes the build id of a copy, and returns the new one."""
    header = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
    bytes_ = bytearray(library.read_bytes())
    start = bytes_.index(header) + len(header)
    bytes_[start] ^= 0xFF
    library.write_bytes(bytes_)
    return bytes(bytes_[start : start + 20]).hex()
