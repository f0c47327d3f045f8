"""A run in which nothing may be skipped: under ARMILLARY_STRICT=1 a skip is a failure.

The one exception is a test that lacks the real data which ARMILLARY_TEST_DATA names: those are counted and named
at the end of every run.
"""

import os
from collections.abc import Generator

import pytest

DATA = "ARMILLARY_TEST_DATA"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that was skipped whole."""
    report = yield
    if report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if os.environ.get("ARMILLARY_STRICT") == "1" and DATA not in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and this run allows no skip. {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count and name the tests that real data were missing for."""
    skipped = terminalreporter.stats.get("skipped", [])
    named = sorted({report.nodeid for report in skipped if DATA in str(report.longrepr)})
    if named:
        terminalreporter.section(f"{len(named)} not run: {DATA} names no real data")
        for nodeid in named:
            terminalreporter.line(nodeid)
