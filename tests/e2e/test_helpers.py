"""Every helper in a running DuckDB: a program of the gallery, or one of the tests', uses it, and what it says is right."""

import re

import pytest

from official import ROOT

PARTS = ["maps", "callbacks", "ring", "bytes", "engine", "block", "tail"]
NUMBER = 0x0123_4567_89AB_CDEF


@pytest.fixture
def told(file_db, programs):
    """Runs a part of helpers.bpf.c and gives what its helpers said."""
    db = file_db(threads="1")
    db("CREATE TABLE t AS SELECT hash(i) AS v FROM range(1000000) r(i)")
    db("CHECKPOINT")
    db(f"CALL hook_attach('{programs / 'helpers.bpf.o'}')")
    db("SELECT sum(v) FROM t")

    def run(part: str):
        context = f"{{size: 424242, tag: {PARTS.index(part)}, file_id: 1, block_id: {NUMBER}}}"
        db(f"FROM hook_run('helpers', context := {context})")
        return db.one("SELECT value.told FROM hook_map_entries('helpers/.bss')")

    run.db = db
    return run


def test_every_helper_is_used():
    header = (ROOT / "extensions-c" / "include" / "duckbpf" / "helpers.h").read_text()
    helpers = re.findall(r"\(\*const (\w+)\)\(", header)
    users = [*ROOT.glob("extensions-c/*/program.bpf.c"), *ROOT.glob("tests/programs/*.c"), *ROOT.glob("tests/e2e/*.py")]
    text = "\n".join(user.read_text() for user in users)
    # bpf_printk, can_loop and bpf_for are macros.
    macros = {"bpf_trace_printk": "bpf_printk"}
    unused = [name for name in helpers if not re.search(rf"\b{macros.get(name, name)}\(", text)]
    assert len(helpers) > 40
    assert unused == []
    assert re.search(r"&& can_loop\)", text) and "bpf_for(" in text


def test_maps(told):
    maps = told("maps")
    assert (maps["deleted"], maps["deleted_again"]) == (0, -2)
    assert (maps["pushed"], maps["pushed_without_room"], maps["peeked"], maps["popped"]) == (0, -7, 5, 5)
    assert maps["seen"] == 0
    assert (maps["own_shard"], maps["is_own_shard"]) == (3, 1)


def test_callbacks_and_budgets(told):
    callbacks = told("callbacks")
    assert (callbacks["walked"], callbacks["sum_of_entries"]) == (2, 33)
    assert (callbacks["looped"], callbacks["sum_of_rounds"]) == (6, 15)
    # 6 3 10 5 16 8 4 2 1
    assert callbacks["rounds_within_budget"] == 8


def test_rings(told):
    # Three records of a number behind eight bytes of their own; what was discarded waits with them.
    assert told("ring")["waiting_bytes"] == 48
    assert told.db("FROM hook_events('events')") == [(1,), (2,)]


def test_bytes_and_hashes(told):
    said = told("bytes")
    assert said["same_name"] == 0 > said["other_name"]
    assert (said["copied"], said["filled"]) == (0, 0xABABABABABABABAB)
    # RFC 3720's check value; DuckDB hashes integers so; the rest is checked against the authors' values in helpers/digest.rs.
    assert said["crc32c"] == 0xE3069283
    assert said["murmur64"] == told.db.one(f"SELECT hash({NUMBER}::UBIGINT)")
    product = NUMBER * (~NUMBER & (1 << 64) - 1)
    assert said["mul128_fold"] == (product ^ product >> 64) & (1 << 64) - 1
    assert len({said["wyhash"], said["xxh3"], 0}) == 3


def test_the_engine(told):
    engine = told("engine")
    assert engine["database_id"] > 0
    # Blocks that the scan let go of.
    assert engine["eviction_queues"] > 5


def test_a_blocks_own_value(told):
    block = told("block")
    assert (block["kept_for_block"], block["block_deleted"], block["kept_after_all"]) == (5, 0, 0)


def test_tail_calls(told):
    assert told("tail")["tail_called"] == NUMBER
