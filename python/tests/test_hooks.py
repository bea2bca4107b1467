"""The package on the official wheel: attaching, listing, and results as pandas and Arrow."""

from pathlib import Path

import duckdb
import pandas
import pyarrow
import pytest

import duckbpf

JOIN = """
    SELECT name, count(*) AS n, sum(v) AS total
    FROM (SELECT i % 100 AS k, i AS v FROM range(200000) t(i)) JOIN names USING (k)
    GROUP BY name ORDER BY name
"""


def names(hooks: duckbpf.Hooks) -> list[str]:
    return sorted({program.name for program in hooks.programs()})


def test_the_wheel_is_the_official_one():
    assert duckdb.__version__ == "2.0.0"


def test_attach_by_name_list_and_detach(hooks):
    done = hooks.attach("unpin_drop_scanned")
    assert (done.name, done.hooks, done.displaced) == ("unpin_drop_scanned", ["unpin"], [])
    (program,) = hooks.programs()
    assert program.hook == "unpin"
    assert program.generation == done.generation
    assert len(program.tag) == 16
    assert program.id > 0 and program.insns > 0 and program.loaded_at.year >= 2026
    assert Path(program.path).is_file()
    hooks.detach("unpin_drop_scanned")
    assert hooks.programs() == []


def test_attach_by_path(hooks, tmp_path, monkeypatch):
    copy = tmp_path / "of my own.bpf.o"
    copy.write_bytes(duckbpf.gallery()["default_unpin"].read_bytes())
    hooks.attach(copy)
    assert names(hooks) == ["of my own"]
    monkeypatch.chdir(tmp_path)
    hooks.attach("of my own.bpf.o", replace=True)
    assert names(hooks) == ["of my own"]


def test_a_taken_hook_needs_replace(hooks):
    hooks.attach("default_unpin")
    with pytest.raises(duckbpf.ProgramError, match="default_unpin"):
        hooks.attach("unpin_drop_scanned")
    assert hooks.attach("unpin_drop_scanned", replace=True).displaced == ["default_unpin"]


def test_set_is_all_or_none(hooks, tmp_path):
    hooks.set("default_load", "default_unpin")
    assert names(hooks) == ["default_load", "default_unpin"]
    with pytest.raises(duckbpf.ProgramError, match="missing"):
        hooks.set("hash_wy", tmp_path / "missing.bpf.o")
    assert names(hooks) == ["default_load", "default_unpin"]
    hooks.clear()
    assert hooks.programs() == []


def test_verify_attaches_nothing(hooks):
    (report,) = hooks.verify("hash_wy")
    assert report.hook == "hash"
    assert report.instructions > 0
    assert hooks.programs() == []


def test_points_count_what_a_query_does(con, hooks):
    hooks.attach("default_allocate_new_block")
    before = {point.hook: point.calls for point in hooks.points()}
    con.execute("SELECT i, count(*) FROM range(100000) t(i) GROUP BY i").fetchall()
    after = {point.hook: point for point in hooks.points()}
    assert {"hash", "unpin", "evict", "checkpoint"} <= after.keys()
    assert after["allocate_new_block"].calls > before["allocate_new_block"]
    assert after["allocate_new_block"].program == "default_allocate_new_block"
    assert {point.carrier for point in after.values()} == {"graft"}
    assert after["hash"].class_ == "transformer"


def test_the_context_manager_restores_what_was_attached(con, hooks):
    hooks.set("default_load")
    with duckbpf.attached(con, "unpin_drop_scanned", "default_hash") as inside:
        assert names(inside) == ["default_hash", "default_load", "unpin_drop_scanned"]
    assert names(hooks) == ["default_load"]
    with pytest.raises(ZeroDivisionError), hooks.attached("default_unpin"):
        raise ZeroDivisionError
    assert names(hooks) == ["default_load"]


def test_the_context_manager_leaves_constants_alone(hooks):
    hooks.attach("trace_load", sample=10)
    with hooks.attached("default_unpin"):
        pass
    assert hooks.maps["trace_load/.rodata"].values()[0]["sample"] == 10
    with hooks.attached("default_load", replace=True):
        assert names(hooks) == ["default_load"]
    assert names(hooks) == ["trace_load"]


def test_programs_run_on_contexts_that_are_made_up(hooks):
    ran = hooks.run("default_unpin", {"size": 262144, "readers": 0, "origin": {"query_id": 7}}, repeat=1000)
    assert (ran.name, ran.hook, ran.repeat) == ("default_unpin", "unpin", 1000)
    assert ran.mean_ns == pytest.approx(ran.total_ns / 1000)
    assert hooks.run(duckbpf.gallery()["observe_counts"], hook="load").hook == "load"
    with pytest.raises(duckbpf.ProgramError, match="no field 'sise'"):
        hooks.run("default_unpin", {"sise": 1})
    assert hooks.programs() == []


def test_the_context_manager_undoes_half_an_attach(hooks):
    with pytest.raises(duckbpf.ProgramError), hooks.attached("default_unpin", "unpin_drop_scanned"):
        pytest.fail("the second one needs the hook of the first")
    assert hooks.programs() == []


def test_pandas_and_arrow_results_are_as_without(con):
    frame = pandas.DataFrame({"k": range(100), "name": [f"name {key % 10}" for key in range(100)]})
    con.register("names", frame)
    as_frame, as_table = con.sql(JOIN).df(), con.sql(JOIN).to_arrow_table()
    hooks = duckbpf.load(con)
    hooks.attach("hash_wy")
    pandas.testing.assert_frame_equal(con.sql(JOIN).df(), as_frame)
    assert con.sql(JOIN).to_arrow_table().equals(as_table)
    con.register("names", pyarrow.Table.from_pandas(frame))
    assert con.sql(JOIN).to_arrow_table().equals(as_table)
    (program,) = hooks.programs()
    assert program.keys > 200_000


def test_a_pending_result_is_left_alone(con, hooks):
    pending = con.execute("SELECT i FROM range(100000) t(i)")
    assert pending.fetchone() == (0,)
    hooks.attach("default_unpin")
    assert hooks.programs()
    assert pending.fetchone() == (1,)


def test_two_connections_see_one_set(con, hooks):
    other = duckbpf.load(con.cursor())
    other.attach("default_unpin")
    assert names(hooks) == ["default_unpin"]


def test_two_databases_see_one_set(hooks):
    with duckbpf.connect() as other:
        duckbpf.load(other).attach("default_unpin")
        assert names(hooks) == ["default_unpin"]
    assert names(hooks) == ["default_unpin"]


def test_an_unknown_gallery_name_lists_the_gallery(hooks):
    with pytest.raises(duckbpf.ProgramMissing, match="unpin_drop_scanned"):
        hooks.attach("no_such_program")
    assert "default_hash" in duckbpf.gallery()


def test_a_package_without_the_extension_says_so(con, monkeypatch, tmp_path):
    monkeypatch.setattr("duckbpf._files._DATA", tmp_path)
    with pytest.raises(duckbpf.ExtensionMissing, match="cargo xtask extension"):
        duckbpf.load(con)
    monkeypatch.undo()


def test_errors_are_duckdb_errors(hooks):
    with pytest.raises(duckdb.Error):
        hooks.detach("not attached")


def test_the_package_is_typed():
    assert (Path(duckbpf.__file__).parent / "py.typed").is_file()


def test_maps_are_mappings(hooks):
    assert dict(hooks.maps) == {}
    hooks.attach("unpin_sizes")
    sizes = hooks.maps["sizes"]
    key = {"query_id": 7, "tag": 0, "log2_size": 18}
    sizes[key] = 100
    assert sizes[key] == 100
    assert sizes.get({**key, "tag": 1}) is None
    with pytest.raises(KeyError):
        sizes[{**key, "tag": 1}]
    with pytest.raises(duckbpf.ProgramError, match="the key exists"):
        sizes.update(key, 1, mode="noexist")
    assert sizes.items() == [(key, 100)]
    assert dict(sizes.items())[sizes.keys()[0]] == 100
    assert (sizes.keys()[0].query_id, key in sizes, 5 in sizes, list(sizes), len(sizes)) == (7, True, False, [key], 1)
    assert list(sizes.table().df().columns) == ["key", "value"]
    assert sizes.table().arrow().to_pylist() == [{"key": key, "value": 100}]
    del sizes[key]
    assert sizes.get(key) is None
    with pytest.raises(duckbpf.ProgramError, match=r"sizes: key: .*INTEGER -> STRUCT"):
        sizes[5] = 1
    assert "unpin_sizes/sizes" in hooks.maps
    assert [info.type for info in hooks.maps.info()] == ["lru_hash"]
    with pytest.raises(KeyError):
        hooks.maps["missing"]


def test_parameters_and_events(hooks, con, tmp_path):
    with pytest.raises(duckbpf.ProgramError, match="sample"):
        hooks.attach("trace_load", sample="often")
    hooks.attach("trace_load", sample=1)
    for statement in (
        f"ATTACH '{tmp_path / 'other.db'}' AS other",
        "CREATE TABLE other.t AS SELECT hash(range) AS h FROM range(1000000)",
        "DETACH other",
        f"ATTACH '{tmp_path / 'other.db'}' AS other",
        "SELECT sum(h) FROM other.t",
    ):
        con.execute(statement).fetchall()
    lost = hooks.maps.info()[-1].lost
    events = hooks.events("events")
    assert {"time_ns", "query_id", "block_id", "size"} <= set(events.columns)
    first = next(iter(events))
    assert first.query_id > 0 and first["size"] == first.size > 0
    assert lost == 0
    con.execute("SELECT sum(h) FROM other.t").fetchall()
    frame = hooks.events("events").df()
    assert "block_id" in frame.columns
    assert hooks.events("events").arrow().column_names == list(frame.columns)
    with pytest.raises(AttributeError, match="no field 'sise'"):
        _ = first.sise


def test_maps_are_made_and_forgotten(hooks):
    limits = hooks.maps.create("limits", "hash", key="STRUCT(a INTEGER, b INTEGER[2])", value="UBIGINT", max_entries=4)
    limits[{"a": 1, "b": [2, 3]}] = 10
    assert limits.items() == [({"a": 1, "b": (2, 3)}, 10)]
    assert limits[{"a": 1, "b": [2, 3]}] == 10
    work = hooks.maps.create("work", "queue", value="UBIGINT", max_entries=4)
    work.push(5)
    assert work.items() == [(None, 5)]
    for name in ("limits", "work"):
        hooks.maps.unpin(name)
    assert dict(hooks.maps) == {}
    with pytest.raises(duckbpf.ProgramError, match="pinned"):
        hooks.maps.unpin("work")


def test_what_sql_tells_python_tells(hooks, con):
    hooks.attach("count_calls")
    instructions = hooks.disassembly("count_calls")
    assert {one.entry for one in instructions} == {program.entry for program in hooks.programs()}
    assert b"\xff\xd0" in b"".join(bytes.fromhex(one.machine_code) for one in instructions), "it calls helpers"
    con.execute("SET hook_tag = 'report'")
    con.execute("SELECT sum(i) FROM range(1000) t(i)").fetchall()
    con.execute("RESET hook_tag")
    assert "report" in hooks.tags().values()
    assert hooks.startup().state == "none"
    hooks.detach(hook="load")
    assert hooks.programs() == []
    with pytest.raises(duckbpf.ProgramError, match="name of a program, or hook"):
        hooks.detach()
