"""Processes that forbid things, fork, are debugged, or hold other libraries and databases."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

import sandbox
from official import CARRIER, CONFIG, EXTENSION


def works(connection: duckdb.DuckDBPyConnection) -> bool:
    return connection.execute("SELECT sum(i) FROM range(100000) t(i)").fetchone() == (4999950000,)


def test_memfd_create_denied(gallery):
    connection = duckdb.connect(config={**CONFIG, "threads": "2"})
    sandbox.deny(sandbox.MEMFD_CREATE)
    try:
        connection.execute("LOAD duckbpf")
        connection.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    except duckdb.Error as error:
        assert "memfd_create" in str(error)
    assert works(connection)


def test_mprotect_denied_before_load():
    connection = duckdb.connect(config={**CONFIG, "threads": "2"})
    assert works(connection)  # the threads exist; new ones need mprotect for their guard pages
    sandbox.deny(sandbox.MPROTECT)
    with pytest.raises(duckdb.Error):
        connection.execute("LOAD duckbpf")
    assert works(connection)


def test_mprotect_denied_after_load(db, gallery):
    db.set(gallery / "default_load.bpf.o")
    assert works(db.connection)
    sandbox.deny(sandbox.MPROTECT)
    try:
        db.set(gallery / "default_unpin.bpf.o")
    except duckdb.InvalidInputException as error:
        assert "default_unpin" in str(error)
        assert "default_load" in str(error)
        assert db.attached() == ["default_load"]
    else:
        assert db.attached() == ["default_unpin"]
    assert works(db.connection)
    db.set()
    assert db.attached() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_membarrier_denied(gallery, when):
    connection = duckdb.connect(config=CONFIG)
    if when == "before":
        sandbox.deny(sandbox.MEMBARRIER)
    connection.execute("LOAD duckbpf")
    connection.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    if when == "after":
        sandbox.deny(sandbox.MEMBARRIER)
    for _ in range(50):
        connection.execute(f"SET hook_program = '{gallery / 'default_load.bpf.o'}, {gallery / 'default_hash.bpf.o'}'")
        assert works(connection)
    assert connection.execute("SELECT count(*) FROM hook_programs()").fetchone() == (2,)


def test_write_then_execute_denied(gallery):
    if not sandbox.deny_write_then_execute():
        pytest.skip("PR_SET_MDWE needs Linux 6.3")
    connection = duckdb.connect(config=CONFIG)
    connection.execute("LOAD duckbpf")
    try:
        connection.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    except duckdb.InvalidInputException as error:
        assert "default_unpin" in str(error)
    assert works(connection)


def test_a_second_runtime_is_refused(gallery, tmp_path):
    first = duckdb.connect(config=CONFIG)
    first.execute("LOAD duckbpf")
    first.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    copy = shutil.copy(EXTENSION, tmp_path / "duckbpf.duckdb_extension")

    second = duckdb.connect(config=CONFIG)
    with pytest.raises(duckdb.Error, match=r"runtime|already"):
        second.execute(f"LOAD '{copy}'")
    assert works(second)
    assert first.execute("SELECT name FROM hook_programs()").fetchall() == [("default_unpin",)]
    assert works(first)


def test_two_databases_steer_one_set(db, gallery):
    other = duckdb.connect(config=CONFIG)
    other.execute("LOAD duckbpf")
    other.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    assert db.attached() == ["default_unpin"]
    other.close()
    assert db.attached() == ["default_unpin"]
    assert works(db.connection)
    db.set()
    assert db.attached() == []


def test_load_again_is_nothing_new(db, gallery):
    db.set(gallery / "default_unpin.bpf.o")
    db("LOAD duckbpf")
    assert db.attached() == ["default_unpin"]


def test_databases_come_and_go(gallery):
    for _ in range(20):
        with duckdb.connect(config=CONFIG) as connection:
            connection.execute("LOAD duckbpf")
            connection.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
            assert works(connection)


@pytest.mark.skipif(CARRIER == "engine", reason="pandas and pyarrow as the official package offers them")
def test_pyarrow_and_pandas_before_load(gallery):
    import pandas
    import pyarrow

    frame = pandas.DataFrame({"k": [index % 7 for index in range(70_000)]})
    table = pyarrow.table({"k": list(range(7)), "name": list("abcdefg")})
    connection = duckdb.connect(config=CONFIG)
    sql = "SELECT name, count(*) AS n FROM frame JOIN arrow USING (k) GROUP BY name ORDER BY name"
    connection.register("frame", frame)
    connection.register("arrow", table)
    before = connection.sql(sql).df()
    connection.execute("LOAD duckbpf")
    connection.execute(f"SET hook_program = '{gallery / 'default_hash.bpf.o'}'")
    pandas.testing.assert_frame_equal(connection.sql(sql).df(), before)
    assert connection.sql(sql).to_arrow_table().num_rows == 7


def test_a_fork_is_detached(gallery):
    connection = duckdb.connect(config={**CONFIG, "threads": "1"})
    connection.execute("LOAD duckbpf")
    connection.execute(f"SET hook_program = '{gallery / 'default_allocate_new_block.bpf.o'}'")
    calls = "SELECT calls FROM hook_points() WHERE hook = 'allocate_new_block'"
    assert works(connection)
    assert connection.execute(calls).fetchone() > (0,)

    child = os.fork()
    if child == 0:
        # Only what says how the child fared may leave it.
        os._exit(_in_the_child(connection, calls, gallery))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert works(connection)
    assert connection.execute("SELECT count(*) FROM hook_programs()").fetchone() == (1,)


def _in_the_child(connection: duckdb.DuckDBPyConnection, calls: str, gallery: Path) -> int:
    before = connection.execute(calls).fetchone()
    if not works(connection):
        return 1
    if connection.execute(calls).fetchone() != before:
        return 2
    try:
        connection.execute(f"SET hook_program = '{gallery / 'default_unpin.bpf.o'}'")
    except duckdb.InvalidInputException as error:
        return 0 if "fork" in str(error) else 4
    return 3


def test_a_debugger_attached(gallery, tmp_path):
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("gdb is not installed")
    script = tmp_path / "debugged.py"
    script.write_text(
        textwrap.dedent(f"""
        import duckdb
        con = duckdb.connect(config={CONFIG!r})
        con.execute("LOAD duckbpf")
        con.execute("SET hook_program = '{gallery / "default_unpin.bpf.o"}'")
        print("debugged:", con.execute("SELECT sum(i) FROM range(100000) t(i)").fetchone())
        """)
    )
    ended = subprocess.run(
        [gdb, "-batch", "-nx", "-ex", "set debuginfod enabled off", "-ex", "run", "--args", sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ptrace: Operation not permitted" in ended.stderr + ended.stdout:
        pytest.skip("this machine forbids ptrace")
    assert "debugged: (4999950000,)" in ended.stdout, ended.stdout + ended.stderr
    assert "SIGSEGV" not in ended.stdout, ended.stdout
