"""The startup file: attached at LOAD, never in the way of a database, and not again after a crash."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from official import CONFIG

STATE = """
    connection.execute("LOAD duckbpf")
    print(connection.execute("SELECT state, coalesce(reason, '') FROM hook_startup()").fetchone())
    print(sorted({name for (name,) in connection.execute("SELECT name FROM hook_programs()").fetchall()}))
"""


def start(database: Path | str, then: str = "", **environment: str) -> tuple[Any, Any, int]:
    """State and reason, what is attached, and how the process ended."""
    program = f"import duckdb, os\nconnection = duckdb.connect({str(database)!r}, config={CONFIG!r})\n"
    program += textwrap.dedent(STATE) + textwrap.dedent(then)
    ended = subprocess.run(
        [sys.executable, "-u", "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 or then, ended.stderr
    state, attached, *_ = ended.stdout.splitlines()
    # Tuples and lists of texts, as Python writes them.
    return eval(state), eval(attached), ended.returncode


@pytest.fixture
def database(tmp_path) -> Path:
    return tmp_path / "my.duckdb"


def test_beside_the_database(database, gallery):
    Path(f"{database}.hook_startup").write_text(
        f"# what this database runs with\nhash_wy\n\n{gallery / 'trace_load.bpf.o'} sample=7\n"
    )
    state, attached, _ = start(database)
    assert (state, attached) == (("attached", ""), ["hash_wy", "trace_load"])
    assert [file.name for file in database.parent.iterdir() if "running" in file.name] == [], "it ended as it should"
    assert start(database)[1] == ["hash_wy", "trace_load"]


def test_by_the_environment(tmp_path):
    file = tmp_path / "programs"
    file.write_text("default_unpin\n")
    assert start(":memory:", HOOK_STARTUP=str(file))[:2] == (("attached", ""), ["default_unpin"])
    assert start(":memory:")[:2] == (("none", ""), [])


@pytest.mark.parametrize(
    "text",
    [
        "no_such_program",
        "hash_wy\ndefault_hash",
        "./missing.bpf.o",
        "trace_load sample",
        "trace_load smple=1",
        "\0\x01",
    ],
)
def test_nothing_in_it_is_in_the_way(database, text):
    Path(f"{database}.hook_startup").write_text(text)
    (state, reason), attached, _ = start(database)
    assert state == "failed"
    assert reason
    assert attached == [], "all or none"


def test_a_file_that_cannot_be_read(tmp_path):
    (state, reason), attached, _ = start(":memory:", HOOK_STARTUP=str(tmp_path / "missing"))
    assert (state, attached) == ("failed", [])
    assert "missing" in reason
    assert start(":memory:", HOOK_STARTUP=str(tmp_path))[0][0] == "failed"


def test_after_a_crash_it_starts_detached_and_says_why(database):
    Path(f"{database}.hook_startup").write_text("hash_wy\n")
    assert start(database, "os.kill(os.getpid(), 11)")[2] == -11
    for _ in range(2):
        (state, reason), attached, _ = start(database)
        assert (state, attached) == ("detached", [])
        assert "ended without an exit" in reason
        assert "retry := true" in reason
    retried = """
        print(connection.execute("SELECT state FROM hook_startup(retry := true)").fetchone())
        assert connection.execute("SELECT name FROM hook_programs()").fetchall() == [("hash_wy",)]
    """
    assert start(database, retried)[2] == 0
    assert start(database)[:2] == (("attached", ""), ["hash_wy"])


def test_two_processes_at_once_are_no_crash(tmp_path):
    file = tmp_path / "programs"
    file.write_text("default_unpin\n")
    inner = f"""
        import subprocess, sys
        seen = subprocess.run(
            [sys.executable, "-c", "import duckdb; c = duckdb.connect(config={CONFIG!r}); c.execute('LOAD duckbpf'); "
             "print(c.execute('SELECT state FROM hook_startup()').fetchone()[0])"],
            capture_output=True, text=True, check=True).stdout
        assert seen == "attached\\n", seen
    """
    assert start(":memory:", inner, HOOK_STARTUP=str(file))[2] == 0
