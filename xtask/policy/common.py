"""What the workloads of `cargo xtask bench policy` share. A workload is a script that is run with its settings as JSON in argv[1] and prints
one JSON object of numbers; xtask/src/policy/mod.rs says more."""

import contextlib
import json
import os
import sys
import threading

import duckdb

settings = json.loads(sys.argv[1])


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def attach_programs(connection):
    """Loads the extension and attaches the run's programs, with their parameters."""
    if settings["programs"] is None:
        return
    connection.execute(f"LOAD {quoted(settings['extension'])}")
    for path, params in settings["programs"]:
        more = f", params := {params}" if params else ""
        connection.execute(f"CALL hook_attach({quoted(path)}{more})")


def connect(path, read_only=False, attach=True, **config):
    """A database, with the run's programs. They steer every database of the process: another one is opened with attach=False."""
    spill = f"{settings['folder']}/{os.getpid()}.tmp"
    config = {"allow_unsigned_extensions": "true", "threads": settings["threads"], "temp_directory": spill, **config}
    connection = duckdb.connect(path, read_only=read_only, config=config)
    connection.execute("SET enable_progress_bar = false")
    if attach:
        attach_programs(connection)
    return connection


def open_database(**config):
    """The TPC-H database, read-only, with the run's programs."""
    return connect(settings["database"], read_only=True, **config)


@contextlib.contextmanager
def database_of(connection):
    """The TPC-H database within one in memory: nothing of it is in DuckDB's memory at first, nor afterwards."""
    connection.execute(f"ATTACH {quoted(settings['database'])} AS tpch (READ_ONLY)")
    connection.execute("USE tpch")
    yield
    connection.execute("USE memory")
    connection.execute("DETACH tpch")


def query(number):
    return settings["queries"][str(number)]


def quantile(values, q):
    """By linear interpolation; None of none."""
    if not values:
        return None
    values = sorted(values)
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def in_threads(works):
    """Runs the functions side by side; the first error of one is raised here."""
    errors = []

    def guarded(work):
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def answer(**numbers):
    print(json.dumps(numbers), flush=True)
