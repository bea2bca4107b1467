"""Every file that is no good is an SQL error that names the file and the reason, at once; what was attached stays."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

Bpf = Callable[..., Path]


def missing(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    return folder / "missing.bpf.o"


def a_folder(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    (folder / "folder.bpf.o").mkdir()
    return folder / "folder.bpf.o"


def empty(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    (folder / "empty.bpf.o").touch()
    return folder / "empty.bpf.o"


def text(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    (folder / "text.bpf.o").write_text("SET hook_program = 'me';\n" * 100)
    return folder / "text.bpf.o"


def x86(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    source = folder / "x86.c"
    source.write_text("long unpin(void *ctx) { return 0; }")
    subprocess.run(["cc", "-c", source, "-o", folder / "x86.bpf.o"], check=True)
    return folder / "x86.bpf.o"


def truncated(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    whole = (gallery / "default_unpin.bpf.o").read_bytes()
    (folder / "truncated.bpf.o").write_bytes(whole[: len(whole) // 2])
    return folder / "truncated.bpf.o"


def sparse(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    with (folder / "sparse.bpf.o").open("wb") as file:
        file.truncate(2 << 30)
    return folder / "sparse.bpf.o"


def a_device(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    (folder / "zero.bpf.o").symlink_to("/dev/zero")
    return folder / "zero.bpf.o"


def a_pipe(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    os.mkfifo(folder / "pipe.bpf.o")
    return folder / "pipe.bpf.o"


def unknown_hook(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    return bpf('SEC("duckdb/no_such_hook") __u64 f(void *ctx) { return 0; }', "unknown_hook")


def two_programs(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    one = 'SEC("duckdb/unpin") __u64 %s(struct duckbpf_unpin_ctx *ctx) { return 0; }'
    return bpf(one % "first" + one % "second", "two_programs")


def unknown_symbol(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    return bpf(
        'extern __u64 nowhere(__u64); SEC("duckdb/unpin") __u64 f(struct duckbpf_unpin_ctx *ctx) { return nowhere(1); }',
        "unknown_symbol",
    )


def no_exit(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    return bpf(
        'SEC("duckdb/unpin") __attribute__((naked)) __u64 f(struct duckbpf_unpin_ctx *ctx) { asm volatile("r0 = 0"); }',
        "no_exit",
    )


def other_abi(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    source = folder / "other_abi.bpf.c"
    source.write_text(
        '__attribute__((section(".duckbpf.abi"), used)) static const unsigned version = 999;\n'
        '__attribute__((section("duckdb/unpin"), used)) unsigned long long f(void *ctx) { return 0; }\n'
    )
    target = folder / "other_abi.bpf.o"
    subprocess.run(["clang-19", "-target", "bpf", "-mcpu=v4", "-O2", "-c", source, "-o", target], check=True)
    return target


def no_program(folder: Path, bpf: Bpf, gallery: Path) -> Path:
    return bpf("__u64 lonely;", "no_program")


CASES = [
    (missing, r"No such file|not found|does not exist"),
    (a_folder, r"directory|folder|regular file"),
    (empty, r"empty|ELF"),
    (text, r"ELF"),
    (x86, r"BPF|x86|machine"),
    (truncated, r"truncated|ELF|beyond|section"),
    (sparse, r"large|bytes|size|limit"),
    (a_device, r"device"),
    (a_pipe, r"pipe|FIFO"),
    (unknown_hook, r"no_such_hook"),
    (two_programs, r"first.*second|second.*first|two programs"),
    (unknown_symbol, r"nowhere"),
    (no_exit, r"exit"),
    (other_abi, r"999"),
    (no_program, r"program"),
]

STATEMENTS = {
    "set": "SET hook_program = '{path}'",
    "set among good ones": "SET hook_program = '{good}, {path}'",
    "attach": "CALL hook_attach('{path}', replace := true)",
    "verify": "CALL hook_verify('{path}')",
}


@pytest.mark.parametrize(("make", "reason"), CASES, ids=[make.__name__ for make, _ in CASES])
def test_a_bad_file_is_an_error_that_changes_nothing(db, bpf, gallery, tmp_path, make, reason):
    path = make(tmp_path, bpf, gallery)
    db.set(gallery / "default_load.bpf.o", gallery / "default_unpin.bpf.o")
    before = db("SELECT name, tag, hook, generation FROM hook_programs() ORDER BY ALL")

    for what, statement in STATEMENTS.items():
        began = time.process_time()
        with pytest.raises(duckdb.InvalidInputException) as error:
            db(statement.format(path=path, good=gallery / "hash_wy.bpf.o"))
        took = time.process_time() - began

        message = str(error.value)
        assert path.name in message, f"{what}: {message}"
        assert re.search(reason, message), f"{what}: {message}"
        assert took < 1, f"{what} took {took:.1f} s of processor time"
        assert db("SELECT name, tag, hook, generation FROM hook_programs() ORDER BY ALL") == before, what
        if what != "verify":
            assert "default_load" in message and "default_unpin" in message, f"{what}: {message}"
    assert db.one("SELECT sum(i) FROM range(1000) t(i)") == 499500


def test_two_objects_for_one_hook_are_refused_together(db, gallery):
    db.set(gallery / "default_load.bpf.o")
    with pytest.raises(duckdb.InvalidInputException, match="unpin"):
        db.set(gallery / "default_unpin.bpf.o", gallery / "unpin_drop_scanned.bpf.o")
    assert db.attached() == ["default_load"]


def test_a_taken_hook_is_an_error_unless_it_is_to_be_replaced(db, gallery):
    db.set(gallery / "default_unpin.bpf.o", gallery / "default_load.bpf.o")
    with pytest.raises(duckdb.InvalidInputException, match="default_unpin"):
        db(f"CALL hook_attach('{gallery / 'unpin_drop_scanned.bpf.o'}')")
    assert db.attached() == ["default_load", "default_unpin"]

    ((name, _, hooks, displaced),) = db(f"CALL hook_attach('{gallery / 'unpin_drop_scanned.bpf.o'}', replace := true)")
    assert (name, hooks, displaced) == ("unpin_drop_scanned", ["unpin"], ["default_unpin"])
    assert db.attached() == ["default_load", "unpin_drop_scanned"]


@pytest.mark.parametrize(
    "arguments",
    ["NULL", "''", "'a', 'b'", "", "42 + NULL", "'a.bpf.o', replace := NULL", "'a.bpf.o', replaces := true"],
)
def test_bad_arguments_are_errors(db, arguments):
    with pytest.raises(duckdb.Error):
        db(f"CALL hook_attach({arguments})")
    assert db.attached() == []


def test_explain_and_prepare_attach_nothing(db, gallery):
    call = f"hook_attach('{gallery / 'default_unpin.bpf.o'}')"
    db(f"EXPLAIN FROM {call}")
    db(f"PREPARE attaching AS FROM {call}")
    assert db.attached() == []
    db("EXECUTE attaching")
    assert db.attached() == ["default_unpin"]


def test_a_file_that_changes_between_sets_is_read_anew(db, gallery, tmp_path):
    path = tmp_path / "changing.bpf.o"
    path.write_bytes((gallery / "default_unpin.bpf.o").read_bytes())
    db.set(path)
    first = db("SELECT entry FROM hook_programs()")
    path.write_bytes((gallery / "unpin_drop_scanned.bpf.o").read_bytes())
    assert db("SELECT entry FROM hook_programs()") == first
    db.set(path)
    assert db("SELECT entry FROM hook_programs()") == [("unpin_drop_scanned",)] != first


def test_paths_with_spaces_commas_and_quotes(db, gallery, tmp_path, monkeypatch):
    odd = tmp_path / 'it\'s a, "b" folder'
    odd.mkdir()
    (odd / "p q.bpf.o").write_bytes((gallery / "default_unpin.bpf.o").read_bytes())
    quoted = '"' + str(odd / "p q.bpf.o").replace('"', '""') + '"'
    db("SET hook_program = '{}, {}'".format(quoted.replace("'", "''"), gallery / "default_load.bpf.o"))
    assert db.attached() == ["default_load", "p q"]
    (odd / "größe\n'2\".bpf.o").write_bytes((gallery / "hash_wy.bpf.o").read_bytes())
    db("CALL hook_attach('{}')".format(str(odd / "größe\n'2\".bpf.o").replace("'", "''")))
    assert "größe\n'2\"" in db.attached()
    db("CALL hook_detach('größe\n''2\"')")
    monkeypatch.chdir(odd)
    db("SET hook_program = 'p q.bpf.o'")
    assert db.attached() == ["p q"]
    assert db("SELECT path FROM hook_programs()") == [(str(odd / "p q.bpf.o"),)]
