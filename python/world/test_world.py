"""dbt-duckdb, ibis, SQLAlchemy and polars on hooks, as their users write them."""

import sys
from pathlib import Path

import duckdb

PROJECT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nconfig-version: 2\nprofile: shop\nmodel-paths: [models]\nseed-paths: [seeds]\n",
    "profiles.yml": "shop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: shop.duckdb\n      threads: 2\n",
    "seeds/orders.csv": "id,customer,amount\n" + "".join(f"{i},{i % 7},{i * 3}\n" for i in range(1, 501)),
    "models/totals.sql": "{{ config(materialized='table') }}\n"
    "SELECT customer, count(*) AS orders, sum(amount) AS amount FROM {{ ref('orders') }} GROUP BY customer\n",
    "models/best.sql": "SELECT * FROM {{ ref('totals') }} JOIN {{ ref('orders') }} USING (customer) ORDER BY totals.amount DESC LIMIT 1\n",
    "models/schema.yml": "version: 2\nmodels:\n  - name: totals\n    columns:\n      - name: customer\n        tests: [unique, not_null]\n",
}


def test_dbt_builds_and_tests_a_project(hooked, tmp_path: Path):
    for name, text in PROJECT.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    dbt = str(Path(sys.executable).parent / "dbt")
    printed = hooked(dbt, "build", "--profiles-dir", ".", "--project-dir", ".")
    assert "ERROR=0" in printed, printed
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as con:
        assert con.execute("SELECT sum(orders), sum(amount)::BIGINT FROM totals").fetchone() == (500, 375750)


def test_ibis(script):
    printed = script(
        """
import ibis
con = ibis.duckdb.connect()
t = ibis.memtable({"k": [i % 10 for i in range(10000)], "v": list(range(10000))})
totals = t.group_by("k").aggregate(n=t.count(), total=t.v.sum()).order_by("k")
joined = con.execute(t.join(totals, "k").filter(lambda row: row.v == row.k).order_by("k"))
print(len(joined), joined.n.sum(), con.execute(totals).total.sum())
"""
    )
    assert printed == "10 10000 49995000\n"


def test_sqlalchemy(script):
    printed = script(
        """
from sqlalchemy import Column, Integer, Sequence, String, create_engine, func, select
from sqlalchemy.orm import Session, declarative_base
Base = declarative_base()
class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, Sequence("ids"), primary_key=True)
    customer = Column(String)
    amount = Column(Integer)
engine = create_engine("duckdb:///:memory:")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Order(customer=f"c{i % 5}", amount=i) for i in range(500)])
    session.commit()
    rows = session.execute(select(Order.customer, func.sum(Order.amount)).group_by(Order.customer).order_by(Order.customer)).all()
print(len(rows), sum(row[1] for row in rows))
"""
    )
    assert printed == "5 124750\n"


def test_polars(script):
    printed = script(
        """
import duckdb, polars
frame = polars.DataFrame({"k": [i % 100 for i in range(100000)], "v": range(100000)})
result = duckdb.sql("SELECT k, sum(v) AS total FROM frame GROUP BY k ORDER BY k").pl()
with duckdb.connect() as con:
    names = polars.DataFrame({"k": range(100), "name": [f"n{i}" for i in range(100)]})
    joined = con.sql("SELECT name, count(*) AS n FROM frame JOIN names USING (k) GROUP BY name").pl()
import duckbpf
hooks = duckbpf.load(duckdb.default_connection())
made = hooks.maps.create("totals", "array", value="UBIGINT", max_entries=3)
made[1] = 42
table = made.table().pl()
print(result.height, result["total"].sum(), joined["n"].sum(), type(table).__module__.split(".")[0], table["value"].to_list())
"""
    )
    assert printed == "100 4999950000 100000 polars [0, 42, 0]\n"
