"""Draws the dashboards of watchtower: each statement of a SQL file becomes a panel.

    pip install matplotlib
    python extensions-c/watchtower/draw.py tpch-sf1.duckdb     # four clients in 100 MB of memory, then both dashboards

In a process of your own: draw(connection, "extensions-c/watchtower/dashboards/storage.sql", "storage.png").
"""

import sys
import threading
from pathlib import Path

import duckdb
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "dashboards"
COLUMNS = 2


def panels(path):
    """Title, kind and SQL of each statement of a file; its comment says the first two: -- title | kind"""
    for part in Path(path).read_text(encoding="utf-8").split("-- ")[1:]:
        head, sql = part.split("\n", 1)
        title, kind = head.split(" | ")
        yield title, kind, sql


def show(axes, kind, names, rows):
    if not rows:
        axes.text(0.5, 0.5, "nothing", ha="center", va="center", color="grey")
        axes.axis("off")
    elif kind == "bars":
        axes.bar([str(row[0]) for row in rows], [row[1] for row in rows], color="#3b75af")
        axes.set_ylabel(names[1])
        axes.tick_params("x", rotation=60, labelsize=7)
    elif kind == "points":
        axes.scatter([row[0] for row in rows], [row[1] for row in rows], s=4, color="#3b75af")
        axes.set_xlabel(names[0])
        axes.tick_params("y", labelsize=7)
    else:
        axes.axis("off")
        table = axes.table([[f"{value:g}" for value in row] for row in rows], colLabels=names, loc="upper center")
        table.auto_set_font_size(False)
        table.set_fontsize(7)


def draw(connection, sql, png):
    """Runs the statements of a file and draws what they give."""
    shown = list(panels(sql))
    height = (len(shown) + COLUMNS - 1) // COLUMNS
    figure, axes = plt.subplots(height, COLUMNS, figsize=(11, 2.9 * height), layout="constrained")
    for place in axes.flat[len(shown) :]:
        place.axis("off")
    for place, (title, kind, statement) in zip(axes.flat, shown, strict=False):
        cursor = connection.execute(statement)
        show(place, kind, [column[0] for column in cursor.description], cursor.fetchall())
        place.set_title(title, fontsize=9)
    figure.savefig(png, dpi=80)


def work(database):
    """Queries on TPC-H from four clients; some fail."""
    config = {"allow_unsigned_extensions": "true", "memory_limit": "100MB", "threads": "2"}
    connection = duckdb.connect(config=config)
    connection.execute("LOAD duckbpf")
    connection.execute("CALL hook_attach('watchtower', params := {sample: 1})")
    connection.execute(f"ATTACH '{database}' AS tpch (READ_ONLY)")
    queries = [
        "SELECT sum(l_extendedprice * l_discount) FROM lineitem WHERE l_quantity < 24",
        "SELECT l_orderkey, sum(l_quantity) AS n FROM lineitem GROUP BY 1 ORDER BY n DESC LIMIT 10",
        "SELECT o_orderpriority, count(*) FROM orders JOIN lineitem ON o_orderkey = l_orderkey GROUP BY ALL",
        "SELECT l_comment::INTEGER FROM lineitem",
        "SELECT count(DISTINCT l_comment) FROM lineitem",
    ]

    def client(first):
        cursor = connection.cursor()
        cursor.execute("USE tpch")
        for turn in range(len(queries)):
            try:
                cursor.execute(queries[(first + turn) % len(queries)]).fetchall()
            except duckdb.Error as error:
                print(str(error).splitlines()[0])

    threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return connection


if __name__ == "__main__":
    live = work(sys.argv[1])
    for sql in sorted(FOLDER.glob("*.sql")):
        draw(live, sql, sql.with_suffix(".png"))
