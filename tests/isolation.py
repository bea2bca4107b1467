"""Every test in a process of its own: what is attached belongs to the process, and a crash must fail one test only.

A pytest plugin. The pytest that collects the tests opens no database. It forks for each of them, as many at a time as there are
processors; the child goes on as a pytest that has this one test, to a process' own end, and the parent shows, in the order of the
tests, the reports that the children leave behind.
"""

import faulthandler
import json
import os
import signal
import sys
import tempfile

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at-once", type=int, default=os.cpu_count() or 1, help="tests that run at the same time")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own says so
    waiting, begun = list(session.items), list[_Test]()
    try:
        while waiting or begun:
            if waiting and sum(test.code is None for test in begun) < session.config.option.at_once:
                test = _Test(waiting.pop(0))
                if test.fork() == 0:
                    begun = []  # the children of another process
                    return test.run()
                begun.append(test)
            else:
                _wait(begun)
            while begun and begun[0].code is not None:
                begun.pop(0).show()
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
    finally:
        for test in begun:
            test.kill()
    return True


class _Test:
    """A test, and the process that it runs in."""

    def __init__(self, item: pytest.Item) -> None:
        self.code: int | None = None
        """How the process ended; a signal's number is negative."""
        self._item = item
        self._pid = 0
        # Closed when they are read.
        self._reports = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

    def fork(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        return self._pid

    def run(self) -> bool:
        """In the child."""
        config = self._item.config
        capture, terminal = (config.pluginmanager.getplugin(name) for name in ("capturemanager", "terminalreporter"))
        assert capture is not None and terminal is not None
        # What it captures into is the parent's as well, and what was shown so far.
        terminal.stats.clear()
        capture.stop_global_capturing()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for stream in (1, 2):
            os.dup2(self._output.fileno(), stream)
        capture.start_global_capturing()
        capture.suspend_global_capture()
        faulthandler.enable(self._output)
        config.pluginmanager.register(self)
        config.hook.pytest_runtest_protocol(item=self._item, nextitem=None)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._item.config.hook.pytest_report_to_serializable(config=self._item.config, report=report)
        print(json.dumps(data), file=self._reports, flush=True)

    def ended(self, pid: int, status: int) -> None:
        if pid == self._pid:
            self.code = os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        if self.code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def show(self) -> None:
        """In the parent, when it has ended."""
        item = self._item
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._read():
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _read(self) -> list[pytest.TestReport]:
        with self._reports, self._output:
            self._reports.seek(0)
            reports = [self._report(line) for line in self._reports]
            if self.code not in (0, 1) or not any(report.when == "teardown" for report in reports):
                self._output.seek(0)
                reports.append(self._died(self._output.read()))
        return reports

    def _report(self, line: str) -> pytest.TestReport:
        config = self._item.config
        report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
        if isinstance(report.longrepr, list):  # where a test was skipped, and why: a tuple before it was JSON
            report.longrepr = tuple(report.longrepr)
        return report

    def _died(self, output: str) -> pytest.TestReport:
        assert self.code is not None
        how = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
        text = f"the test's process ended with {how}\n{output}"
        nodeid, location = self._item.nodeid, self._item.location
        return pytest.TestReport(nodeid, location, keywords={}, outcome="failed", longrepr=text, when="call")


def _wait(tests: list[_Test]) -> None:
    """Until one of them has ended."""
    pid, status = os.wait()
    for test in tests:
        test.ended(pid, status)
