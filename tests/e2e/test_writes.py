"""What is written under a policy is what stock writes: changes, checkpoints, spills, and the file opened again."""

import duckdb
import pytest

from official import CONFIG

STEPS = [
    "CREATE TABLE t AS SELECT i, i % 1009 AS k, hash(i)::VARCHAR AS s FROM range(400000) r(i)",
    "CREATE INDEX by_number ON t(i)",
    "CHECKPOINT",
    "UPDATE t SET s = s || '-' || k WHERE k % 7 = 0",
    "DELETE FROM t WHERE k % 11 = 3",
    "INSERT INTO t SELECT i + 1000000, i % 31, repeat('x', (i % 300)::INTEGER) FROM range(50000) r(i)",
    "CHECKPOINT",
    "CREATE TABLE grouped AS SELECT k, s[1:2] AS head, count(*) AS n, sum(i) AS total FROM t GROUP BY ALL",
    "CREATE TABLE joined AS SELECT a.i, b.n FROM t a JOIN grouped b ON a.k = b.k AND a.s[1:2] = b.head",
    "CREATE TABLE sorted AS SELECT * FROM t ORDER BY s, i",
    "ALTER TABLE t ADD COLUMN extra INTEGER DEFAULT 42",
    "UPDATE t SET extra = k WHERE i % 3 = 0",
    "CHECKPOINT",
    "DROP TABLE sorted",
    "VACUUM",
]
LOOKS = [
    "SELECT count(*), sum(i), sum(k), sum(extra), bit_xor(hash(i, k, s, extra)) FROM t",
    "SELECT count(*), sum(n), sum(total), bit_xor(hash(k, head, n, total)) FROM grouped",
    "SELECT count(*), sum(n), bit_xor(hash(i, n)) FROM joined",
    "SELECT i, k, length(s) FROM t WHERE i IN (17, 1000123, 399999) ORDER BY i",
]
LIMITED = {**CONFIG, "threads": "3", "memory_limit": "100MB"}


def write(path: str, hooks: str | None) -> list:
    with duckdb.connect(path, config=LIMITED) as connection:
        if hooks is not None:
            connection.execute("LOAD duckbpf")
            connection.execute(f"SET hook_program = '{hooks}'")
        for step in STEPS:
            connection.execute(step).fetchall()
        return [connection.execute(look).fetchall() for look in LOOKS]


@pytest.mark.parametrize("policy", ["unpin_drop_scanned", "load_once", "reckless", "nonsense", "hash_wy"])
def test_what_is_written_is_what_stock_writes(tmp_path, gallery, programs, policy):
    expected = write(str(tmp_path / "stock.duckdb"), None)
    (object_file,) = (
        folder / f"{policy}.bpf.o" for folder in (gallery, programs) if (folder / f"{policy}.bpf.o").exists()
    )
    hooked = tmp_path / "hooked.duckdb"
    assert write(str(hooked), str(object_file)) == expected
    # What reads the file now starts from the disk, and is stock.
    with duckdb.connect(str(hooked), config={**LIMITED, "access_mode": "read_only"}) as connection:
        connection.execute("LOAD duckbpf")
        connection.execute("RESET hook_program")
        assert [connection.execute(look).fetchall() for look in LOOKS] == expected
