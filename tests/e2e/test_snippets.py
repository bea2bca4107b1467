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
            "extension/README.md",
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
LANGUAGES = ("sql", "python", "sh", "rust", "c")

RUN_ELSEWHERE = {
    ("docs/src/command.md", "sh"): "tests/e2e/test_command.py",
    ("docs/src/jit.md", "sh"): "tests/e2e/test_command.py",
    ("docs/src/engine.md", "python"): "tests/engine/test_engines.py",
    ("docs/src/rust.md", "rust"): "examples/skeleton/tests/book.rs",
    ("docs/src/writing.md", "c"): "here",
    ("docs/src/writing.md", "sh"): "here",
    ("docs/src/writing.md", "sql"): "here",
    ("docs/src/socket.md", "sh"): "here",
    ("docs/src/socket.md", "sql"): "here",
    ("README.md", "c"): "here",
    ("docs/src/maps.md", "c"): "here",
    ("docs/src/hooks/hash.md", "c"): "here",
}
"""Blocks that a test of their own runs."""

BUILDS = "it builds, tests or measures everything"
NOT_RUN = {
    ("README.md", "sh"): (
        3,
        f"{BUILDS}; python/tests installs the wheel, and the book's page has the commands with an end",
    ),
    ("python/README.md", "sh"): (1, f"{BUILDS}; python/tests installs the wheel"),
    ("docs/src/install.md", "sh"): (
        2,
        f"{BUILDS}; python/tests installs the wheel; bpftrace needs root: test_probes.py",
    ),
    ("docs/src/install.md", "sql"): (1, "it wants a signed repository: python/tests/test_install.py"),
    ("docs/src/command.md", "sql"): (1, "a folder of the reader's; the page on the socket has the same statement"),
    ("docs/src/engine.md", "sh"): (3, f"{BUILDS}; tests/engine builds and runs the C example by pkg-config"),
    ("docs/src/engine.md", "rust"): (1, "it wants an engine; tests/engine.rs has the calls"),
    ("docs/src/engine.md", "sql"): (1, "it wants an engine; the page's Python says the same statements"),
    ("docs/src/measurements.md", "sh"): (1, BUILDS),
    ("docs/src/policies.md", "sh"): (1, BUILDS),
    ("docs/src/helpers.md", "c"): (
        49,
        "prototypes, written from the table that makes helpers.h; the first is test_helpers.py's",
    ),
}
"""How many blocks no test runs, and why."""

FENCE = re.compile(r"^ *```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


@pytest.fixture
def folder(tmp_path, gallery, monkeypatch) -> Path:
    """Where a reader would be: the gallery's objects and a program of their own at hand."""
    shutil.copytree(gallery, tmp_path / "target" / "bpf")
    own = {"my_policy": "default_load", "new": "default_load", "a": "unpin_sizes", "b c": "trace_load"}
    own |= {"d": "default_schedule_task", "e": "default_load"}
    for name, program in own.items():
        shutil.copy(gallery / f"{program}.bpf.o", tmp_path / f"{name}.bpf.o")
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


def test_every_block_is_run_or_listed():
    pages = {ROOT / "README.md", *ROOT.glob("docs/src/**/*.md"), *PAGES}
    found = {}
    for page in pages:
        name = str(page.relative_to(ROOT))
        found |= {(name, language): len(blocks(page, language)) for language in LANGUAGES if blocks(page, language)}
    run = {(str(page.relative_to(ROOT)), language) for page in PAGES for language in ("sql", "python")}
    not_run = {place: count for place, count in found.items() if place not in run and place not in RUN_ELSEWHERE}
    assert not_run == {place: count for place, (count, _) in NOT_RUN.items()}
    assert [place for place in RUN_ELSEWHERE if place not in found] == []
    for (name, _), test in RUN_ELSEWHERE.items():
        text = Path(__file__).read_text() if test == "here" else (ROOT / test).read_text()
        assert Path(name).name in text


# What stands around the C of a page that is no whole file, and what its blocks have in them.
FRAMES = {
    "README.md": ("{}", ""),
    "docs/src/hooks/hash.md": (
        """LICENSE("MIT");
{}
SEC("duckdb/hash") __u64 f(struct duckbpf_hash_ctx *ctx) {{ return duckbpf_murmur64(ctx->lo); }}""",
        "",
    ),
    "docs/src/maps.md": (
        """LICENSE("MIT");
{}
SEC("duckdb/load") __u64 f(struct duckbpf_load_ctx *ctx)
{{
{}
return 0;
}}""",
        "",
    ),
    "docs/src/helpers.md": (
        """LICENSE("MIT");
SEC("duckdb/load") __u64 f(struct duckbpf_load_ctx *ctx)
{{
{}
return rounds + number;
}}""",
        "can_loop",
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_c_of_a_page(name, db, bpf):
    frame, word = FRAMES[name]
    shown = [text for text in blocks(ROOT / name, "c") if word in text]
    db(f"FROM hook_verify('{bpf(frame.format(*shown), 'shown', '-Wall', '-Werror')}')")


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
    (command,) = blocks(page, "sh")
    asked, path = re.fullmatch(r"echo '(.*)' \| socat - UNIX-CONNECT:(\S+)\n", command).groups()
    assert path in sql
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "duckbpf.sock"))
        lines = client.makefile("rw")
        lines.write(asked + "\n")
        lines.flush()
        assert len(json.loads(lines.readline())["ok"]) > 10
        for exchange in blocks(page, "json"):
            request, printed = exchange.splitlines()
            lines.write(request + "\n")
            lines.flush()
            answer, told = json.loads(lines.readline()), json.loads(printed)
            if "ok" in told:
                told["ok"]["generation"] = answer["ok"]["generation"]
            assert answer == told
