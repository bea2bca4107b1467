"""``python -m duckbpf run script.py``: a script as it is, with hooks in every connection that it opens."""

import argparse

from duckbpf import _run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m duckbpf", description="eBPF for DuckDB, for Python programs as they are"
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run a script with the extension loaded into every connection that it opens")
    run.add_argument(
        "--attach",
        action="append",
        default=[],
        metavar="PROGRAM",
        help="attach this first: a name of the gallery, or a path",
    )
    run.add_argument("--socket", metavar="PATH", help="open the control socket there, for the duckbpf command")
    run.add_argument("--report", action="store_true", help="say at the end, on standard error, what programs did")
    run.add_argument("-m", dest="module", action="store_true", help="the script is a module's name")
    run.add_argument("script")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    _run.run(
        given.script,
        given.arguments,
        is_module=given.module,
        options=_run.Options(attach=given.attach, socket=given.socket, report=given.report),
    )


if __name__ == "__main__":
    main()
