"""What all tests share: where things are, objects compiled from C, and SQL files as tests."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import sqllogic
from official import CARRIER, ROOT, install

pytest_plugins = ["isolation"]

if CARRIER == "engine":
    # About official builds, and packages that stand on them.
    collect_ignore = [
        f"e2e/test_{name}.py"
        for name in ("command", "outside_counts", "probes", "snippets", "stress", "unknown_duckdb")
    ]

GALLERY = ROOT / "target" / "bpf"
PROGRAMS = ROOT / "target" / "bpf-tests"


def compile_bpf(source: Path, target: Path, *flags: str) -> Path:
    """Compiles a program as `cargo xtask programs` does, unless that was done since it changed."""
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    includes = ["-I", str(ROOT / "extensions-c" / "include"), "-I", str(ROOT / "hook-shim" / "include")]
    temporary = target.with_suffix(f".{os.getpid()}")
    subprocess.run(
        ["clang-19", "-target", "bpf", "-mcpu=v4", "-O2", "-g", *flags, *includes, "-c", source, "-o", temporary],
        check=True,
    )
    temporary.rename(target)
    return target


def pytest_sessionstart() -> None:
    install()


def build_programs() -> Path:
    """Compiles tests/programs and returns the objects' folder."""
    for source in sorted((ROOT / "tests" / "programs").glob("*.bpf.c")):
        compile_bpf(source, PROGRAMS / source.name.replace(".bpf.c", ".bpf.o"))
    return PROGRAMS


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the objects compiled from tests/programs."""
    return build_programs()


@pytest.fixture(scope="session")
def gallery() -> Path:
    """The folder of the gallery's objects."""
    if not any(GALLERY.glob("*.bpf.o")):
        pytest.fail("the gallery was not built: cargo xtask programs")
    return GALLERY


@pytest.fixture
def bpf(tmp_path: Path) -> Callable[..., Path]:
    """Compiles a program that a test holds as text."""

    def build(text: str, name: str = "program", *flags: str) -> Path:
        source = tmp_path / f"{name}.bpf.c"
        source.write_text('#include "duckbpf.h"\n' + text)
        return compile_bpf(source, tmp_path / f"{name}.bpf.o", *flags)

    return build


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".test":
        return SqlFile.from_parent(parent, path=file_path)
    return None


class SqlFile(pytest.File):
    def collect(self) -> list["SqlItem"]:
        return [SqlItem.from_parent(self, name=self.path.stem)]


class SqlItem(pytest.Item):
    def runtest(self) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            folders = {"GALLERY": str(GALLERY), "PROGRAMS": str(build_programs()), "TMP": temporary}
            sqllogic.run(self.path, {**folders, "CARRIER": CARRIER})

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: str | None = None) -> str:
        if excinfo.errisinstance(sqllogic.Failure):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name
