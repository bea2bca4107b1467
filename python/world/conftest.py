"""Each package runs a script of its kind in a process of its own, by `python -m duckbpf run`, unchanged."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]


@pytest.fixture
def hooked(tmp_path: Path) -> Run:
    """Runs a command line of Python with hooks, another hash and a program that counts; checks that it was at work, and returns what was printed."""

    def run(*arguments: str, cwd: Path = tmp_path) -> str:
        command = [
            sys.executable,
            "-m",
            "duckbpf",
            "run",
            "--attach",
            "hash_wy",
            "--attach",
            "count_calls",
            "--report",
            *arguments,
        ]
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
        }
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # Small numbers are grouped and joined without hashes; memory is asked for by whatever is done.
        (calls,) = re.findall(r"^count_calls: update_used_memory: (\d+) calls", done.stderr, re.MULTILINE)
        assert int(calls) > 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def script(hooked: Run, tmp_path: Path) -> Callable[[str], str]:
    """Runs a script's text."""

    def run(text: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(text)
        return hooked(str(file))

    return run
