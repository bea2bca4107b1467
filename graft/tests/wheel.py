"""Scenarios in the process of an official wheel: python wheel.py <scenario> <probe> <image>. An exception is a failure."""

import ctypes
import json
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "e2e"))
import sandbox  # noqa: E402

SCENARIO, PROBE, IMAGE = sys.argv[1:]
# Gone when the process ends.
SCRATCH = tempfile.TemporaryDirectory()
# Those that every query reaches. The probe counts all, these first.
HOOKS = ["hash", "schedule_task", "execute_forever", "load", "update_used_memory", "allocate_new_block", "unpin"]

QUERIES = [
    "SELECT count(*), sum(i), min(s), max(s) FROM t",
    "SELECT g, count(*), sum(i) FROM t GROUP BY g ORDER BY g",
    "SELECT s, count(*) FROM t GROUP BY s ORDER BY s LIMIT 50",
    "SELECT count(*) FROM t JOIN u ON t.g = u.g",
    "SELECT count(*), sum(a.i) FROM t a JOIN t b USING (s)",
    "SELECT u.name, sum(t.d) FROM t JOIN u USING (g) GROUP BY u.name ORDER BY u.name",
    "SELECT count(*) FROM t WHERE g IN (SELECT g FROM u WHERE name LIKE '%3%')",
    "SELECT count(*) FROM t WHERE NOT EXISTS (SELECT * FROM u WHERE u.g = t.g)",
    "SELECT count(DISTINCT s), count(DISTINCT g), approx_count_distinct(i) FROM t",
    "SELECT i, s FROM t ORDER BY s DESC, i LIMIT 100",
    "SELECT g, i, row_number() OVER (PARTITION BY g ORDER BY i) r FROM t QUALIFY r <= 2 ORDER BY g, i",
    "SELECT sum(x) FROM (SELECT i, lag(i) OVER (ORDER BY i) x FROM t)",
    "SELECT count(*) FROM t LEFT JOIN u ON t.g = u.g AND u.name > 'n5'",
    "SELECT count(*) FROM (SELECT g FROM t UNION SELECT g + 1 FROM u)",
    "SELECT count(*) FROM (SELECT s FROM t INTERSECT SELECT name FROM u)",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r WHERE n < 200) SELECT sum(n) FROM r",
    "SELECT g, median(d), quantile_cont(i, 0.9) FROM t GROUP BY g ORDER BY g LIMIT 10",
    "SELECT d::DATE, count(*) FROM (SELECT DATE '2020-01-01' + g::INT d FROM t) GROUP BY ALL ORDER BY ALL LIMIT 20",
    "PIVOT (SELECT g % 4 AS k, g % 3 AS c, i FROM t) ON c USING sum(i) GROUP BY k ORDER BY k",
    "SELECT count(*) FROM t a ASOF JOIN u b ON a.i >= b.g",
    "SELECT hash(s), md5(s) FROM t ORDER BY i LIMIT 10",
    "SELECT list(g ORDER BY g)[1:5], string_agg(s, ',' ORDER BY i)[1:50] FROM t WHERE i < 1000",
]


class Probe:
    """One copy of the code under test."""

    def __init__(self, path=PROBE):
        self.library = ctypes.CDLL(path)

    def __call__(self, function, *arguments):
        call = self.library[f"probe_{function}"]
        call.restype = ctypes.c_char_p
        return json.loads(call(*arguments))

    def install(self, image=IMAGE):
        return self("install", os.fsencode(image))

    def installed(self):
        answer = self.install()
        assert "error" not in answer, answer
        assert answer["slots"] > 100, answer
        return answer


def fill(con):
    con.execute("CREATE TABLE t AS SELECT i, i % 97 AS g, 'name' || i % 5003 AS s, (i / 7)::DECIMAL(12, 3) AS d FROM range(200000) t(i)")
    con.execute("CREATE TABLE u AS SELECT g, 'n' || g AS name FROM range(0, 120, 2) t(g)")


def connect(**config):
    import duckdb

    con = duckdb.connect(config={"threads": "3", **config})
    fill(con)
    return con


def results(con):
    return [con.execute(query).fetchall() for query in QUERIES]


def mapping_of(address):
    """The name of the file that is mapped at an address, without its parts' distinction."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, end = (int(bound, 16) for bound in fields[0].split("-"))
        if start <= address < end:
            return fields[5] if len(fields) > 5 else "", fields[4]
    raise AssertionError(f"{address:#x} is not mapped")


def assert_slots_lead_into(probe, mapping):
    slots = probe("slots")
    assert slots
    for name, value in slots:
        assert mapping_of(value) == mapping, name


def slots():
    """Every redirect lands in the graft, and back in the host after an undo."""
    con = connect()
    before = results(con)
    probe = Probe()
    answer = probe.installed()
    assert answer["took_us"] > 0
    graft = mapping_of(answer["table"])
    assert "memfd:duckbpf-graft" in graft[0], graft
    assert_slots_lead_into(probe, graft)
    assert results(con) == before

    import _duckdb

    slots_before = [name for name, _ in probe("slots")]
    assert len(slots_before) == answer["slots"]
    copy = Probe()  # the same library: the loader knows it
    assert copy.install()["took_us"] == 0
    undone = probe("undo")
    assert undone == {}, undone
    assert results(con) == before
    again = probe.installed()
    assert again["table"] == answer["table"] and again["took_us"] > 0
    assert_slots_lead_into(probe, graft)
    assert _duckdb.__file__ not in graft[0]


def two_copies():
    """The second one still knows the slots when the first has undone them."""
    probe, keeper = Probe(), Probe(shutil.copy(PROBE, f"{SCRATCH.name}/keeper.so"))
    probe.installed()
    keeper.installed()
    return probe, keeper


def stock_code():
    """What the graft leaves to the host is the host's own, the function that its slots led to before."""
    import _duckdb

    con = connect()
    before = results(con)
    probe, keeper = two_copies()
    code = dict(probe("stock_code"))
    assert len(code) >= 3 and all(mapping_of(address)[0] == _duckdb.__file__ for address in code.values()), code
    assert dict(keeper("stock_code")) == code
    assert results(con) == before
    assert probe("undo") == {}
    own = dict(keeper("slots"))
    assert {name: own[name] for name in code} == code


def undo():
    """After an undo every slot holds a function of the host."""
    import _duckdb

    con = connect()
    before = results(con)
    probe, keeper = two_copies()
    assert probe("undo") == {}
    slots = keeper("slots")
    assert slots and all(mapping_of(value)[0] == _duckdb.__file__ for _, value in slots)
    assert results(con) == before


def reached():
    """Each hooked function is reached by SQL, and results are right with another hash."""
    con = connect()
    before = results(con)
    probe = Probe()
    probe.installed()
    assert probe("attach") == {"statuses": [0, 0]}
    calls = probe("calls")
    path = Path(SCRATCH.name) / "file.db"
    with_file = connect()
    with_file.execute(f"ATTACH '{path}' AS f")
    with_file.execute("CREATE TABLE f.t AS FROM t")
    with_file.execute("CHECKPOINT f")
    assert with_file.execute("SELECT sum(i) FROM f.t").fetchall() == con.execute("SELECT sum(i) FROM t").fetchall()
    assert results(con) == before
    later = probe("calls")
    missed = [hook for hook, old, new in zip(HOOKS, calls, later, strict=False) if new <= old]
    assert not missed, (missed, later)


def copies():
    """Two copies of the code that install at the same time agree on one graft."""
    con = connect()
    probes = [Probe(shutil.copy(PROBE, f"{SCRATCH.name}/{name}.so")) for name in "abcd"]
    answers = [None] * len(probes)
    start = threading.Barrier(len(probes))

    def install(at):
        start.wait()
        answers[at] = probes[at].install()

    threads = [threading.Thread(target=install, args=(at,)) for at in range(len(probes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any("error" in answer for answer in answers), answers
    assert len({answer["table"] for answer in answers}) == 1, answers
    assert sum(answer["took_us"] > 0 for answer in answers) == 1, answers
    graft = mapping_of(answers[0]["table"])
    for probe in probes:
        assert_slots_lead_into(probe, graft)
    assert results(con)


def under_load():
    """Installing and undoing while clients run queries loses and corrupts nothing."""
    import duckdb

    con = connect()
    before = results(con)
    probe = Probe()
    done = threading.Event()
    failures = []
    rounds = [0] * 3

    def client(at):
        cursor = con.cursor()
        while not done.is_set():
            try:
                if results(cursor) != before:
                    failures.append("a result differs")
                rounds[at] += 1
            except duckdb.Error as error:
                failures.append(error)

    clients = [threading.Thread(target=client, args=(at,)) for at in range(3)]
    for thread in clients:
        thread.start()
    took = []
    while min(rounds) < 2 and not failures:
        took.append(probe.installed()["took_us"])
        assert probe("undo") == {}
    probe.installed()
    done.set()
    for thread in clients:
        thread.join()
    assert not failures, failures
    assert results(con) == before
    took.sort()
    print(f"{len(took)} installs under load, median {took[len(took) // 2]:.0f} us, worst {took[-1]:.0f} us")
    assert took[len(took) // 2] < 5000


def errors_cross():
    """What the host throws is caught in the graft and the other way round."""
    import duckdb

    con = connect(memory_limit="20MB", max_temp_directory_size="0B")
    Probe().installed()
    for query, kind in [
        ("SELECT list(i), list(s) FROM t, range(50)", duckdb.OutOfMemoryException),
        ("SELECT s::INT FROM t", duckdb.ConversionException),
        ("SELECT error('mine') FROM t", duckdb.InvalidInputException),
    ]:
        try:
            con.execute(query).fetchall()
            raise AssertionError(query)
        except kind:
            pass
    assert con.execute("SELECT count(*) FROM t").fetchone() == (200000,)


def bad_images():
    """What is no graft is refused, and the host goes on."""
    con = connect()
    probe = Probe()
    image = Path(IMAGE).read_bytes()
    folder = Path(SCRATCH.name)
    for contents, reason in [
        (b"", "can't be used"),
        (b"text" * 1000, "can't be used"),
        (image[:5000], "can't be used"),
        (image[: len(image) // 2], "can't be used"),
        (image.replace(b"duckbpf-graft-host:", b"duckbpf-graft-xxxx:"), "can't be used"),
        (image.replace(b"\0duckdb_hookpoints_v1\0", b"\0duckdb_hookpoints_v0\0"), "refused|lacks|missing"),
    ]:
        path = folder / "image.so"
        path.write_bytes(contents)
        answer = probe.install(path)
        assert any(word in answer.get("error", "") for word in reason.split("|")), answer
    assert probe("slots") == []
    assert results(con)
    probe.installed()


def no_mprotect():
    """Where protection can't be changed nothing is."""
    con = connect()
    before = results(con)
    probe = Probe()
    probe.installed()
    assert probe("undo") == {}
    keeper = Probe(shutil.copy(PROBE, f"{SCRATCH.name}/keeper.so"))
    sandbox.deny(sandbox.MPROTECT)
    answer = probe.install()
    assert "mprotect" in answer["error"] and "seccomp" in answer["error"], answer
    assert "error" in keeper.install()
    assert results(con) == before


def no_memfd():
    con = connect()
    probe = Probe()
    sandbox.deny(sandbox.MEMFD_CREATE)
    answer = probe.install()
    assert "memfd_create" in answer["error"] and "seccomp" in answer["error"], answer
    assert results(con)


def no_write_then_execute():
    con = connect()
    if not sandbox.deny_write_then_execute():
        print("SKIPPED: PR_SET_MDWE needs Linux 6.3")
        return
    Probe().installed()
    assert results(con)


def lazily_bound():
    """A host that binds functions at their first call is refused, unless it was told to bind them at once."""
    sys.setdlopenflags(os.RTLD_LAZY)
    con = connect()
    answer = Probe().install()
    assert "half-bound" in answer["error"] and "LD_BIND_NOW=1" in answer["error"], answer
    assert results(con)


def bound_at_once():
    """LD_BIND_NOW helps."""
    sys.setdlopenflags(os.RTLD_LAZY)
    con = connect()
    Probe().installed()
    assert results(con)


def no_duckdb():
    answer = Probe().install()
    assert "no DuckDB" in answer["error"], answer


def other_version():
    """Run by the Python of another DuckDB."""
    import duckdb

    answer = Probe().install()
    assert duckdb.__version__ in answer["error"] and "not known" in answer["error"], answer
    assert "duckdb==2.0.0" in answer["error"], answer
    assert duckdb.sql("SELECT sum(i) FROM range(1000) t(i)").fetchone() == (499500,)


def with_arrow():
    import pyarrow  # noqa: F401

    con = connect()
    Probe().installed()
    assert con.execute("SELECT * FROM t").to_arrow_table().num_rows == 200000
    assert results(con)


globals()[SCENARIO]()
print("passed")
