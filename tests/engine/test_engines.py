"""The engine as a library: two in one process, the extension on the stock one, C and ADBC programs, sizes."""

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from official import CONFIG, EXTENSION, ROOT

ENGINE = ROOT / "target" / "engine"
HOOKED = ENGINE / "hooked" / "lib"
STOCK = ENGINE / "stock" / "lib"
SUM = "SELECT sum(i) FROM range(100000) t(i)"


def connect(monkeypatch: pytest.MonkeyPatch, lib: Path) -> duckdb.DuckDBPyConnection:
    """A database on that engine."""
    monkeypatch.setenv("DUCKBPF_LIBRARY", str(lib / "libduckdb.so"))
    return duckdb.connect(config=CONFIG)


def value(connection: duckdb.DuckDBPyConnection, sql: str) -> object:
    ((found,),) = connection.execute(sql).fetchall()
    return found


def test_two_engines_in_one_process(monkeypatch, gallery):
    hooked, stock = connect(monkeypatch, HOOKED), connect(monkeypatch, STOCK)
    hooked.execute("LOAD duckbpf")
    hooked.execute(f"SET hook_program = '{gallery / 'default_allocate_new_block.bpf.o'}'")
    with pytest.raises(duckdb.Error, match=r"serves one DuckDB.*hooked/lib.*stock/lib"):
        stock.execute("LOAD duckbpf")
    calls = "SELECT calls FROM hook_points() WHERE hook = 'allocate_new_block'"
    group = "SELECT count(*) FROM (SELECT i, count(*) FROM range(300000) t(i) GROUP BY i)"
    before = value(hooked, calls)
    idle = value(hooked, calls) - before
    assert value(stock, group) == 300000
    assert value(hooked, calls) - before == 2 * idle, "the stock engine's queries are nobody's business"
    assert value(hooked, group) == 300000
    assert value(hooked, calls) - before > 3 * idle


def test_the_stock_engine_is_refused_and_works_on(monkeypatch):
    stock = connect(monkeypatch, STOCK)
    with pytest.raises(duckdb.InvalidInputException, match=r"not known.*stock/lib/libduckdb\.so.*cargo xtask engine"):
        stock.execute("LOAD duckbpf")
    assert value(stock, SUM) == 4999950000


LOAD = """
import sys, duckdb
connection = duckdb.connect(config={config!r})
try:
    connection.execute("LOAD duckbpf")
except duckdb.Error as error:
    print(error)
print(connection.execute("{sum}").fetchall())
"""


@pytest.mark.parametrize(("field", "found"), [(0, 2), (3, 2)], ids=["table", "contexts"])
def test_an_engine_of_a_newer_abi_is_refused_and_works_on(tmp_path, field, found):
    library = HOOKED / "libduckdb.so"
    # The first four numbers of struct duckbpf_host (hook-shim/include/duckbpf/abi.h): version, size, carrier, abi.
    host = ctypes.CDLL(str(library)).duckdb_hookpoints_v1
    host.restype = ctypes.POINTER(ctypes.c_uint32 * 4)
    table = list(host().contents)
    image = library.read_bytes()
    assert image.count(struct.pack("<4I", *table)) == 1
    newer = [found if number == field else value for number, value in enumerate(table)]
    assert newer[field] > table[field]
    fake = tmp_path / "libduckdb.so"
    fake.write_bytes(image.replace(struct.pack("<4I", *table), struct.pack("<4I", *newer)))
    ended = subprocess.run(
        [sys.executable, "-c", LOAD.format(config=CONFIG, sum=SUM)],
        env={**os.environ, "DUCKBPF_LIBRARY": str(fake)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"speak version {found}, this runtime version {table[field]}" in ended.stdout
    assert "from one checkout" in ended.stdout
    assert "4999950000" in ended.stdout


def test_json_and_parquet_are_in_it(monkeypatch, tmp_path):
    hooked = connect(monkeypatch, HOOKED)
    file = tmp_path / "t.parquet"
    hooked.execute(f"COPY (SELECT i, {{'a': i}}::JSON AS j FROM range(1000) t(i)) TO '{file}'")
    assert value(hooked, f"SELECT sum((j->>'a')::INT) FROM '{file}'") == 499500


@pytest.mark.parametrize("lib", [STOCK, HOOKED], ids=["stock", "hooked"])
def test_icu_is_in_it(monkeypatch, lib):
    if "icu" not in json.loads((ENGINE / "manifest.json").read_text())["extensions"]:
        pytest.skip(
            "SKIPPED: pip could not fetch ICU's sources when the engine was built; `cargo xtask engine` tries again"
        )
    engine = connect(monkeypatch, lib)
    assert value(engine, "SELECT icu_sort_key('Ä', 'de') < icu_sort_key('b', 'de')")
    noon = "TIMESTAMPTZ '2024-07-01 12:00:00+00'"
    assert value(engine, f"SELECT strftime(timezone('Europe/Berlin', {noon}), '%H:%M')") == "14:00"
    engine.execute("SET TimeZone = 'Asia/Tokyo'")
    assert value(engine, f"SELECT hour({noon})") == 21
    # Calendars that keep caches for each thread.
    for calendar, year in [("islamic", 1445), ("chinese", 41)]:
        engine.execute(f"SET Calendar = '{calendar}'")
        assert value(engine, f"SELECT year({noon})") == year
        days = "SELECT count(DISTINCT month(TIMESTAMPTZ '2000-01-01' + to_days((i % 400)::INT))) FROM range(4000) t(i)"
        assert value(engine, days) == 12


def thread_local_bytes(library: str) -> int:
    """Thread-local storage that a library asks for."""
    segments = subprocess.run(
        ["readelf", "--segments", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    ((_, _, _, _, _, size, *_),) = (line.split() for line in segments.splitlines() if line.split()[:1] == ["TLS"])
    return int(size, 16)


def test_libraries_can_be_loaded_beside_each_other():
    for lib in (STOCK, HOOKED):
        library = str(lib / "libduckdb.so")
        dynamic = subprocess.run(
            ["readelf", "--dynamic", "--wide", library], capture_output=True, text=True, check=True
        )
        assert "SYMBOLIC" in dynamic.stdout
        symbols = subprocess.run(
            ["readelf", "--dyn-syms", "--wide", library], capture_output=True, text=True, check=True
        )
        assert "UNIQUE" not in symbols.stdout
        # The loader has 1,664 bytes for libraries like the hooked one: enough for two engines.
        assert thread_local_bytes(library) < 800
        assert ("duckdb_hookpoints_v1" in symbols.stdout) == (lib == HOOKED)
        assert "duckbpf" not in symbols.stdout


def test_hooks_add_little():
    manifest = json.loads((ENGINE / "manifest.json").read_text())
    growth = manifest["hooked"]["stripped"] - manifest["stock"]["stripped"]
    print(f"libduckdb.so: {manifest['stock']['stripped']} bytes, with hooks {growth:+}")
    assert 0 < growth < 100_000
    assert len(manifest["different_objects"]) < 60


@pytest.fixture
def c_program(tmp_path):
    """Compiles examples/engine.c, as its head says, with one of the engines."""

    def build(lib: Path) -> Path:
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "duckdb"],
            env={**os.environ, "PKG_CONFIG_PATH": str(lib / "pkgconfig")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        program = tmp_path / lib.parent.name
        source = str(ROOT / "examples" / "engine.c")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", source, *flags, "-o", str(program)], check=True)
        return program

    return build


def test_c_programs(c_program, gallery, tmp_path):
    database = str(tmp_path / "c.duckdb")
    program = gallery / "default_allocate_new_block.bpf.o"
    hooks = [f"LOAD '{EXTENSION}'", f"SET hook_program = '{program}'"]
    run = {"capture_output": True, "text": True, "check": False}
    called = "SELECT string_agg(name || ': ' || calls, ', ') FROM hook_programs()"
    ended = subprocess.run([c_program(HOOKED), database, *hooks, SUM, called], **run)
    assert re.fullmatch(r"4999950000\ndefault_allocate_new_block: \d+\n", ended.stdout), ended
    stock = c_program(STOCK)
    assert subprocess.run([stock, database, SUM], **run).stdout == "4999950000\n"
    refused = subprocess.run([stock, database, *hooks, SUM], **run)
    assert refused.returncode == 1 and "cargo xtask engine" in refused.stderr, refused


def test_the_books_python(tmp_path, gallery):
    page = (ROOT / "docs" / "src" / "engine.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ended = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended
    assert "default_hash" in ended.stdout


COUNT = """
import json, sys, duckdb
from collections import Counter

config, file, programs, queries = json.loads(sys.argv[1])
con = duckdb.connect(file, read_only=True, config={**config, "threads": "1", "async_threads": "1"})
con.execute("LOAD duckbpf")
con.execute(f"SET hook_program = '{programs}'")

def calls():
    return Counter(dict(con.execute("SELECT hook, calls FROM hook_points()").fetchall()))

def once(statement):
    before = calls()
    idle = calls() - before
    before = calls()
    con.execute(statement).fetchall()
    return calls() - before - idle

counts = {}
for name, sql in queries:
    # Into a table: the same plan, whoever the client is. A worker that was idle for long adds a call: the middle of three.
    statement = f"CREATE OR REPLACE TEMP TABLE result AS {sql}"
    con.execute(statement).fetchall()
    passes = [once(statement) for _ in range(3)]
    counts[name] = {hook: sorted(one[hook] for one in passes)[1] for hook in passes[0]}
print(json.dumps(counts))
"""


def count(library: Path, programs: list[Path]) -> dict[str, Counter[str]]:
    """Hook calls of the 22 queries, by query."""
    database = str(ROOT / "target" / "bench" / "data" / "tpch-sf0.01.duckdb")
    queries = [
        (file.stem, file.read_text().rstrip().rstrip(";")) for file in sorted((ROOT / "tpch/queries").glob("q*.sql"))
    ]
    job = json.dumps([CONFIG, database, ", ".join(map(str, programs)), queries])
    ended = subprocess.run(
        [sys.executable, "-c", COUNT, job],
        env={**os.environ, "DUCKBPF_LIBRARY": str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: Counter(calls) for name, calls in json.loads(ended.stdout).items()}


def test_hook_calls_agree_between_the_carriers(gallery):
    programs = sorted(gallery.glob("default_*.bpf.o"))
    assert len(programs) >= 7
    (wheel,) = (ROOT / "target" / "venv").glob("lib/python*/site-packages/_duckdb*.so")
    # The wheel's own client plans a statement once, ADBC twice: both are driven by the same.
    grafted = count(wheel, programs)
    linked = count(HOOKED / "libduckdb.so", programs)
    assert len(linked) == 22
    total = sum(linked.values(), Counter())
    assert all(total[hook] > 100 for hook in ("hash", "load", "unpin", "schedule_task", "execute_forever")), total
    assert linked == grafted
