"""The control socket: who may open it, what it answers, and clients that misbehave."""

import json
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from official import CONFIG


class Client:
    """Lines of JSON to and from a socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")

    def send(self, **request: Any) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        return json.loads(self.lines.readline())

    def ask(self, **request: Any) -> Any:
        """The result of a request that succeeds."""
        self.send(**request)
        return self.receive()["ok"]

    def refused(self, **request: Any) -> str:
        """The message of one that does not."""
        self.send(**request)
        return self.receive()["error"]

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def path(db, tmp_path) -> Iterator[Path]:
    path = tmp_path / "socket"
    db(f"SET hook_socket = '{path}'")
    return path


def test_it_offers_what_sql_offers(db, path, gallery):
    client = Client(path)
    hello = client.ask(op="hello")
    assert hello["protocol"] == 1
    assert hello["duckdb"] == "v2.0.0"
    attached = client.ask(op="attach", path="count_calls")
    assert attached["name"] == "count_calls"
    db("SELECT sum(i) FROM range(100000) t(i)")
    assert db.attached() == ["count_calls"]
    programs = client.ask(op="programs")
    assert [(one["name"], one["path"]) for one in programs] == [("count_calls", "count_calls")] * len(programs)
    assert sum(one["calls"] for one in programs) > 0
    points = {one["hook"]: one for one in client.ask(op="points")}
    assert points["unpin"]["program"] == "count_calls"
    assert {one["name"] for one in client.ask(op="maps")} == {one for (one,) in db("SELECT name FROM hook_maps()")}
    stats = client.ask(op="stats")
    assert stats["map_memory"] > 0
    assert len(stats["points"]) == len(points)
    (listing, *_) = client.ask(op="dump", name="count_calls")
    assert listing["insns"][-1]["text"] == "exit"
    ran = client.ask(op="run", name="default_unpin", context={"size": 5, "origin": {"query_id": 7}}, repeat=10)
    assert (ran["hook"], ran["result"], ran["repeat"]) == ("unpin", 1, 10)
    assert client.ask(op="verify", path=str(gallery / "hash_wy.bpf.o"))[0]["hook"] == "hash"
    assert client.ask(op="sampling", on=True) is None
    assert client.ask(op="detach", hook="unpin")["name"] == "count_calls"
    assert db.attached() == []
    assert "attached as before" in client.refused(op="attach", path="no_such_program")


def test_maps_are_read_and_changed(db, path, programs):
    client = Client(path)
    client.ask(op="attach", path=str(programs / "maps.bpf.o"), params={"factor": 3})
    limit = {"bytes": 2**64 - 1, "change": -5, "level": "HIGH", "name": "abc", "pair": [1, 2], "strict": True}
    assert client.ask(op="update", map="limits", key=7, value=limit) is None
    assert client.ask(op="entries", map="limits") == [{"key": 7, "value": limit}]
    assert db("SELECT key, value.bytes, value.level FROM hook_map_entries('limits')") == [(7, 2**64 - 1, "HIGH")]
    assert "exists" in client.refused(op="update", map="limits", key=7, value=limit, mode="noexist")
    assert "does not fit" in client.refused(op="update", map="limits", key=-1, value=limit)
    assert "no member 'byts'" in client.refused(op="update", map="limits", key=1, value={"byts": 1})
    client.ask(op="delete", map="limits", key=7)
    assert client.ask(op="entries", map="limits") == []
    client.ask(op="update", map="pages", key=9, value=[1, 2, 3])
    (nine,) = [entry["value"] for entry in client.ask(op="entries", map="pages") if entry["key"] == 9]
    assert nine[:3] == [1, 2, 3]
    client.ask(op="update", map="work", value=5)
    assert client.ask(op="entries", map="work") == [{"key": None, "value": 5}]
    client.ask(op="delete", map="work")
    client.ask(op="update", map="shifts", key=0, value="day")
    assert "no map is named 'nowhere'" in client.refused(op="entries", map="nowhere")


def test_events_are_followed(db, path, programs):
    client = Client(path)
    client.ask(op="attach", path=str(programs / "maps.bpf.o"))
    assert client.ask(op="events", map="events") == {"records": [], "lost": 0}
    client.send(op="events", map="events", follow=True)
    db("SELECT i % 100 AS k, list(i) FROM range(100000) r(i) GROUP BY k")
    events = client.receive()["ok"]
    assert events["records"][0]["what"] == "get"
    client.send(op="hello")
    while "protocol" not in client.receive()["ok"]:
        pass
    assert "no ring buffer" in client.refused(op="events", map="limits")


def test_records_that_reach_nobody_are_counted(db, path, programs):
    client, other = Client(path), Client(path)
    client.ask(op="attach", path=str(programs / "maps.bpf.o"), params={"factor": 1})
    client.send(op="events", map="events", follow=True, most=1)
    # It will not read any more: the next record reaches nobody, and the connection ends.
    client.socket.shutdown(socket.SHUT_RD)

    def lost() -> int:
        (events,) = [one for one in other.ask(op="maps") if one["name"] == "events"]
        return events["lost"]

    deadline = time.monotonic() + 60
    while lost() == 0 and time.monotonic() < deadline:
        db("SELECT i % 100 AS k, list(i) FROM range(20000) r(i) GROUP BY k")
    assert lost() > 0
    # Whoever comes next has the rest: every record was handed over, or counted as lost.
    (written, _) = other.ask(op="entries", map="totals")
    waiting = len(other.ask(op="events", map="events", most=65536)["records"])
    assert written["value"] == waiting + lost()
    client.close()


def test_a_clients_wish_for_times_ends_with_it(db, path, gallery):
    db(f"SET hook_program = '{gallery / 'default_hash.bpf.o'}'")

    def timed() -> int:
        """Calls that are timed of some hundreds."""
        before = db.one("SELECT timed_calls FROM hook_programs()")
        db("SELECT count(*) FROM (SELECT DISTINCT i FROM range(1000000) r(i))")
        return db.one("SELECT timed_calls FROM hook_programs()") - before

    assert timed() == 0
    first, second = Client(path), Client(path)
    first.ask(op="sampling", on=True)
    first.ask(op="sampling", on=True)
    second.ask(op="sampling", on=True)
    assert timed() > 0
    second.ask(op="sampling", on=False)
    assert timed() > 0, "the other one still wants it"
    # As if it had been killed.
    first.close()
    deadline = time.monotonic() + 60
    while timed() > 0 and time.monotonic() < deadline:
        pass
    assert timed() == 0
    db("SET hook_sampling = true")
    second.ask(op="sampling", on=False)
    assert timed() > 0, "SQL wants it"


def test_nonsense_is_answered_and_harms_nobody(db, path):
    client = Client(path)
    for line in [b"\n", b"garbage\n", b"\xff\xfe\x00\n", b'{"op": "atach"}\n', b"[1, 2]\n", b'{"op":"run"}\n']:
        client.socket.sendall(line)
    for _ in range(5):
        assert "no request" in client.receive()["error"]
    assert client.ask(op="hello")["protocol"] == 1, "the connection goes on"
    client.socket.sendall(b"x" * (1 << 20) + b"xxxx")
    assert "more than" in client.receive()["error"]
    assert client.lines.readline() == b"", "it is ended"
    clients = [Client(path) for _ in range(64)]
    assert all(one.ask(op="hello") for one in clients)
    assert "64 clients" in Client(path).receive()["error"]
    for one in clients:
        one.close()
    assert db.one("SELECT 42") == 42


def test_clients_that_vanish_send_no_signal(db, path, gallery):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    db(f"CALL hook_attach('{gallery / 'count_calls.bpf.o'}')")
    for _ in range(50):
        client = Client(path)
        for _ in range(50):
            client.send(op="stats")
        client.close()
    assert Client(path).ask(op="hello")["protocol"] == 1


def test_only_its_owner_may_connect_and_it_goes_when_closed(db, path, tmp_path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert db.one("SELECT current_setting('hook_socket')") == str(path)
    client = Client(path)
    other = tmp_path / "other"
    db(f"SET hook_socket = '{other}'")
    assert not path.exists()
    assert client.lines.readline() == b""
    db("RESET hook_socket")
    assert not other.exists()
    assert db.one("SELECT current_setting('hook_socket')") == ""


def test_what_is_there_already_stays(db, tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(duckdb.InvalidInputException, match="no socket"):
        db(f"SET hook_socket = '{file}'")
    assert file.read_text() == "precious"
    used = tmp_path / "used"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(used))
    listener.listen()
    with pytest.raises(duckdb.InvalidInputException, match="in use"):
        db(f"SET hook_socket = '{used}'")
    listener.close()
    db(f"SET hook_socket = '{used}'")
    assert Client(used).ask(op="hello")
    with pytest.raises(duckdb.InvalidInputException, match="hook_socket"):
        db(f"SET hook_socket = '{tmp_path / 'no' / 'folder'}'")
    assert Client(used).ask(op="hello"), "the open one stays"
    with pytest.raises(duckdb.InvalidInputException, match="at most 107 bytes, not 2"):
        db(f"SET hook_socket = '{tmp_path / ('x' * 200)}'")


def test_it_goes_with_the_process(tmp_path):
    path = tmp_path / "socket"
    program = f"""
        import duckdb, os
        connection = duckdb.connect(config={CONFIG!r})
        connection.execute("LOAD duckbpf; SET hook_socket = '{path}'")
        assert os.path.exists({str(path)!r})
        if os.fork() == 0:
            raise SystemExit
        os.wait()
        assert os.path.exists({str(path)!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    assert not path.exists()
