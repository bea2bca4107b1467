"""Every test in a process of its own: what is attached belongs to the process, and a crash must fail one test only.

A pytest plugin. The outer pytest starts an inner one for each test and shows the reports that it left behind.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_REPORTS = "DUCKBPF_TEST_REPORTS"
"""Set in the inner process: the file that it appends its reports to."""


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if _REPORTS in os.environ:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_configure(config: pytest.Config) -> None:
    if _REPORTS in os.environ:
        config.pluginmanager.register(_Recorder(config, Path(os.environ[_REPORTS])))


class _Recorder:
    def __init__(self, config: pytest.Config, file: Path) -> None:
        self._config = config
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._file.open("a") as file:
            file.write(json.dumps(data) + "\n")


def _run(item: pytest.Item) -> list[pytest.TestReport]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reports"
        command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-p", "no:cacheprovider", "-q", item.nodeid]
        ended = subprocess.run(
            command,
            cwd=item.config.rootpath,
            env={**os.environ, _REPORTS: str(file)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        reports = [_read(item, line) for line in file.read_text().splitlines()] if file.exists() else []
    if ended.returncode not in (0, 1) or not any(report.when == "teardown" for report in reports):
        reports.append(_died(item, ended))
    return reports


def _read(item: pytest.Item, line: str) -> pytest.TestReport:
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=json.loads(line))
    if isinstance(report.longrepr, list):  # where a test was skipped, and why: a tuple before it was JSON
        report.longrepr = tuple(report.longrepr)
    return report


def _died(item: pytest.Item, ended: subprocess.CompletedProcess[str]) -> pytest.TestReport:
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit code {ended.returncode}"
    text = f"the test's process ended with {how}\n{ended.stdout}\n{ended.stderr}"
    return pytest.TestReport(
        nodeid=item.nodeid, location=item.location, keywords={}, outcome="failed", longrepr=text, when="call"
    )
