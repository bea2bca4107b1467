"""Installing with signatures on: DuckDB's own rules, the package's own repository."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import duckbpf
from duckbpf import _files


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    """A machine on which nothing was installed so far."""
    places = {"extension_directory": "extensions", "extension_repository_directory": "repositories"}
    return {setting: str(tmp_path / name) for setting, name in places.items()}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a process has one copy of the extension."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_signed_extension_is_installed_and_loaded(folders):
    code = """
import sys, duckdb, duckbpf
con = duckdb.connect(config=dict(pair.split("=") for pair in sys.argv[1:]))
assert con.execute("SELECT current_setting('allow_unsigned_extensions')").fetchone() == (False,)
duckbpf.load(con).attach("default_unpin")
duckbpf.load(con)
print(con.execute("SELECT count(*) FROM duckdb_extension_repositories() WHERE repository_name = 'duckbpf'").fetchone()[0])
"""
    for _ in range(2):  # the second time nothing is to be done but LOAD
        ended = python(code, *(f"{name}={folder}" for name, folder in folders.items()))
        assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


def test_sql_alone_installs_it(folders):
    code = """
import sys, duckdb
con = duckdb.connect(config=dict(pair.split("=") for pair in sys.argv[2:]))
con.execute("SET allow_extension_repositories = 'allowed'")
con.execute(f"CREATE EXTENSION REPOSITORY duckbpf WITH PREFIX '{sys.argv[1]}'")
con.execute("INSTALL duckbpf FROM duckbpf")
con.execute("LOAD duckbpf FROM duckbpf")
print(con.execute("SELECT count(*) > 6 FROM hook_points()").fetchall()[0][0])
"""
    ended = python(code, str(_files.repository()), *(f"{name}={folder}" for name, folder in folders.items()))
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_a_changed_file_is_refused(folders, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(_files.repository(), changed)
    file = changed / _files.PLACE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with duckdb.connect(config={**folders, "allow_extension_repositories": "allowed"}) as con:
        con.execute(f"CREATE EXTENSION REPOSITORY duckbpf WITH PREFIX '{changed}'")
        with pytest.raises(duckdb.IOException, match="valid signature"):
            con.execute("INSTALL duckbpf FROM duckbpf")


def test_another_key_is_refused(folders, tmp_path):
    private = tmp_path / "other.pem"
    openssl = ["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private]
    subprocess.run(openssl, check=True)
    public = subprocess.run(
        ["openssl", "pkey", "-pubout", "-in", private], check=True, capture_output=True, text=True
    ).stdout
    with duckdb.connect(config={**folders, "allow_extension_repositories": "allowed"}) as con:
        con.execute(
            f"CREATE EXTENSION REPOSITORY duckbpf WITH PREFIX '{_files.repository()}' USING PUBLIC KEY '{public}'"
        )
        with pytest.raises(duckdb.IOException, match="valid signature"):
            con.execute("INSTALL duckbpf FROM duckbpf")


def test_forbidden_repositories_stay_forbidden(folders):
    with duckdb.connect(config={**folders, "allow_extension_repositories": "forbidden"}) as con:
        with pytest.raises(duckbpf.LoadError, match="forbids extension repositories"):
            duckbpf.load(con)
        assert con.execute("SELECT 42").fetchone() == (42,)


def test_an_older_one_is_replaced(folders):
    code = """
import sys, duckdb, duckbpf
con = duckdb.connect(config=dict(pair.split("=") for pair in sys.argv[2:]))
duckbpf.install(con)
installed = sys.argv[1]
open(installed, "ab").write(b"older")
duckbpf.install(con)
print(open(installed, "rb").read().endswith(b"older"))
"""
    installed = Path(folders["extension_directory"], _files.PLACE.parent, "repositories", "duckbpf", _files.PLACE.name)
    ended = python(code, str(installed), *(f"{name}={folder}" for name, folder in folders.items()))
    assert (ended.returncode, ended.stdout) == (0, "False\n"), ended.stderr


def test_a_package_that_was_not_signed_says_so(con, monkeypatch, tmp_path):
    place = tmp_path / "repository" / _files.PLACE
    place.parent.mkdir(parents=True)
    shutil.copy(_files.extension(), place)
    monkeypatch.setattr("duckbpf._files._DATA", tmp_path)
    with pytest.raises(duckbpf.ExtensionMissing, match="cargo xtask wheel"):
        duckbpf.load(con)
    monkeypatch.undo()


def test_scripts_run_unchanged(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
from duckdb import connect
import duckdb
from beside import NAME
assert __name__ == "__main__" and sys.argv[1:] == ["a", "--b"], sys.argv
with connect() as con:
    print(NAME, con.execute("SELECT sum(h) FROM (SELECT count(*) AS h FROM range(100000) t(i) GROUP BY i % 10)").fetchone()[0])
    print(con.execute("SELECT program FROM hook_points() WHERE hook = 'hash'").fetchone()[0])
print(duckdb.sql("SELECT count(*) > 6 FROM hook_points()").fetchall()[0][0])
"""
    )
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    command = [sys.executable, "-m", "duckbpf", "run", "--attach", "default_hash", "--report", str(script), "a", "--b"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "beside 100000\ndefault_hash\nTrue\n"
    assert "default_hash: hash: " in ended.stderr


def test_modules_run_too(tmp_path):
    (tmp_path / "module_of_mine.py").write_text(
        "import duckdb\nprint(duckdb.connect().sql('FROM hook_points()').fetchall()[0][0])\n"
    )
    command = [sys.executable, "-m", "duckbpf", "run", "-m", "module_of_mine"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "hash\n"), ended.stderr
