"""A pytest plugin inside the upstream sessions: points ``redis://`` at another transport, writes down what happens.

Loaded with ``-p tests.conformance.plugin``; the environment configures it.
"""
from __future__ import annotations

import json
import os
from typing import Optional

import pytest
from kombu.transport import TRANSPORT_ALIASES

#: The transport that ``redis://`` means in the session, as module:name; the stock one where unset.
TRANSPORT = 'CONFORMANCE_TRANSPORT'
#: The file that each outcome is appended to, a line of JSON each.
OUTCOMES = 'CONFORMANCE_OUTCOMES'
#: Ids, a line each, of the tests that are expected to fail: their suites' reruns would take minutes and change nothing.
EXPECTED = 'CONFORMANCE_EXPECTED'


def pytest_addoption(parser: pytest.Parser) -> None:
    """Kombu's suite is called with the environment whose services are there; its conftest.py is not shipped."""
    parser.addoption('-E', default='redis', help='ignored: the only environment is redis')


def pytest_configure(config: pytest.Config) -> None:
    for marker in 'env(name)', 'flaky', 'timeout':
        config.addinivalue_line('markers', marker)
    if os.environ.get(TRANSPORT):
        TRANSPORT_ALIASES['redis'] = os.environ[TRANSPORT]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two markers the nearer one holds, so that these tests are not run again."""
    expected = os.environ.get(EXPECTED, '').splitlines()
    for item in items:
        if item.nodeid in expected or item.nodeid.partition('[')[0] in expected:
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported counts as a test of its own."""
    if report.failed:
        _write(report.nodeid, 'collect', 'failed', str(report.longrepr))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What became of each phase of a test, and the error. Subtests report with their test's id."""
    error = ''
    if report.failed and report.longrepr is not None:
        crash = getattr(report.longrepr, 'reprcrash', None)
        error = crash.message if crash else str(report.longrepr)
    _write(report.nodeid, report.when, report.outcome, error)


def _write(test: str, phase: Optional[str], outcome: str, error: str) -> None:
    line = {'test': test, 'phase': phase, 'outcome': outcome, 'error': ' '.join(error.split())[:300]}
    with open(os.environ[OUTCOMES], 'a') as outcomes:
        outcomes.write(json.dumps(line) + '\n')
