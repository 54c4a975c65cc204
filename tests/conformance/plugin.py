"""A pytest plugin inside the upstream sessions: points ``redis://`` at another transport, writes down what happens.

Loaded with ``-p tests.conformance.plugin``; `TRANSPORT` and `OUTCOMES` in the environment configure it.
"""
from __future__ import annotations

import json
import os

import pytest
from kombu.transport import TRANSPORT_ALIASES

#: The transport that ``redis://`` means in the session, as module:name; the stock one where unset.
TRANSPORT = 'CONFORMANCE_TRANSPORT'
#: The file that each outcome is appended to, a line of JSON each.
OUTCOMES = 'CONFORMANCE_OUTCOMES'


def pytest_addoption(parser: pytest.Parser) -> None:
    """Kombu's suite is called with the environment whose services are there; its conftest.py is not shipped."""
    parser.addoption('-E', default='redis', help='ignored: the only environment is redis')


def pytest_configure(config: pytest.Config) -> None:
    for marker in 'env(name)', 'flaky', 'timeout':
        config.addinivalue_line('markers', marker)
    if os.environ.get(TRANSPORT):
        TRANSPORT_ALIASES['redis'] = os.environ[TRANSPORT]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line for each phase of a test: what became of it, and the error."""
    error = ''
    if report.failed and report.longrepr is not None:
        crash = getattr(report.longrepr, 'reprcrash', None)
        error = crash.message if crash else str(report.longrepr).strip()
    line = {'test': report.nodeid, 'phase': report.when, 'outcome': report.outcome, 'error': ' '.join(error.split())[:300],
            'seconds': round(report.duration, 2)}
    with open(os.environ[OUTCOMES], 'a') as outcomes:
        outcomes.write(json.dumps(line) + '\n')
