"""Much of everything, and maps that change under a query: clear errors, nothing lost."""

import duckdb
import pytest

MAPS = 3000

HASH = """
LICENSE("MIT");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, %s);
	__type(key, __u32);
	__type(value, %s);
} state SEC(".maps");

SEC("duckdb/query_end")
__u64 look(struct duckbpf_query_end_ctx *ctx)
{
	__u32 key = 1;

	return bpf_map_lookup_elem(&state, &key) ? 0 : 0;
}
"""


def test_thousands_of_maps(db):
    before = db.memory("EXTENSION")
    for number in range(MAPS):
        db(f"CALL hook_map_create('map {number}', 'array', value := 'UBIGINT', max_entries := 4)")
    assert db.one("SELECT count(*) FROM hook_maps()") == MAPS
    db("CALL hook_map_update('map 1500', 3, 42)")
    assert db("FROM hook_map_entries('map 1500')") == [(0, 0), (1, 0), (2, 0), (3, 42)]
    with pytest.raises(duckdb.InvalidInputException, match="no map is named 'map 3000'") as error:
        db("FROM hook_map_entries('map 3000')")
    assert len(str(error.value)) < 2000, "an error is not a list of thousands"
    for number in range(MAPS):
        db(f"CALL hook_map_unpin('map {number}')")
    assert db("FROM hook_maps()") == []
    assert db.memory("EXTENSION") == before


def test_thousands_of_programs(db, bpf, gallery):
    some = "".join(
        f'SEC("?duckdb/unpin") __u64 program_{n}(struct duckbpf_unpin_ctx *ctx) {{ return {n} & 1; }}\n'
        for n in range(3000)
    )
    with pytest.raises(duckdb.InvalidInputException, match="more than 64 programs"):
        db(f"FROM hook_verify('{bpf(some, 'thousands')}')")
    paths = ", ".join(f"/nowhere/{n}.bpf.o" for n in range(3000))
    with pytest.raises(duckdb.InvalidInputException, match=r"/nowhere/0\.bpf\.o"):
        db(f"SET hook_program = '{paths}'")
    paths = ", ".join([str(gallery / "default_unpin.bpf.o")] * 3000)
    with pytest.raises(duckdb.InvalidInputException, match="names default_unpin twice"):
        db(f"SET hook_program = '{paths}'")
    assert db.attached() == []


def test_thousands_of_attachments(db, gallery):
    """Ids and generations go up, and nothing piles up."""
    for _ in range(2000):
        db(f"CALL hook_attach('{gallery / 'unpin_sizes.bpf.o'}', replace := true)")
    assert db.one("SELECT count(*) FROM hook_programs()") == 1
    assert db.one("SELECT generation FROM hook_programs()") == 2000
    assert db.one("SELECT count(*) FROM hook_maps() WHERE name = 'sizes'") == 1


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("0", "max_entries must not be 0"),
        ("0x7fffffff", "more than such a map can have|SET hook_map_memory"),
        ("0xffffffff", "more than such a map can have|SET hook_map_memory"),
    ],
)
def test_sizes_that_no_map_has(db, bpf, entries, reason):
    with pytest.raises(duckdb.InvalidInputException, match=reason):
        db(f"CALL hook_attach('{bpf(HASH % (entries, '__u64'), 'sized')}')")
    assert db("FROM hook_maps()") == []


def test_a_prepared_look_at_a_map_that_went_or_changed(db, bpf):
    first, other = bpf(HASH % ("4", "__u64"), "state"), bpf(HASH % ("4", "struct { __u64 a; __u32 b; }"), "other")
    db(f"CALL hook_attach('{first}')")
    db("CALL hook_map_update('state', 1, 10)")
    db("PREPARE look AS FROM hook_map_entries('state')")
    db("PREPARE change AS FROM hook_map_update('state', 2, 20)")
    assert db("EXECUTE look") == [(1, 10)]
    db("EXECUTE change")
    assert db.one("SELECT count(*) FROM hook_map_entries('state')") == 2

    db("CALL hook_detach('state')")
    for statement in ("look", "change"):
        with pytest.raises(duckdb.InvalidInputException, match="no map is named 'state'"):
            db(f"EXECUTE {statement}")
    db(f"CALL hook_attach('{other}')")
    for statement in ("look", "change"):
        with pytest.raises(duckdb.InvalidInputException, match="prepare it again"):
            db(f"EXECUTE {statement}")
    db("CALL hook_detach('other')")
    db(f"CALL hook_attach('{first}')")
    assert db("EXECUTE look") == [], "another map, with nothing in it yet"


def test_a_reload_removes_a_map_while_its_entries_are_read(db, bpf):
    """Whoever reads sees what the map held, or is told that it is gone."""
    path = bpf(HASH % ("1000", "__u64"), "state")
    db(f"CALL hook_attach('{path}')")
    for key in range(100):
        db(f"CALL hook_map_update('state', {key}, {key})")
    reader = db.connection.cursor()
    result = reader.execute("FROM hook_map_entries('state')")
    db("CALL hook_detach('state')")
    try:
        assert sorted(result.fetchall()) == [(key, key) for key in range(100)]
    except duckdb.InvalidInputException as error:
        assert "no map is named 'state'" in str(error)
