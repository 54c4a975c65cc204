"""One upstream test file in a pytest session of its own, on an empty server."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from celery_qos.embedded import EmbeddedRedis

from . import plugin

__all__ = ('TRANSPORTS', 'Result', 'run')

#: Scheme of the broker URL to what ``redis://`` means in the suites that build URLs themselves.
TRANSPORTS = {'qos': 'celery_qos.transport:Transport', 'redis': ''}
#: Seconds that one test, and one file, may take.
TEST_TIMEOUT, FILE_TIMEOUT = 300, 3600

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    """What became of the tests of one file.

    Attributes:
        outcomes: test id to passed, failed or skipped.
        errors: test id to the message of the failure.
        reruns: tests that failed first, and were run again as their suite asks.
        log: what pytest printed.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    reruns: set[str] = field(default_factory=set)
    log: str = ''

    @property
    def summary(self) -> str:
        count = Counter(self.outcomes.values())
        text = ', '.join(f'{count[outcome]} {outcome}' for outcome in ('passed', 'failed', 'skipped'))
        return f'{text}, {len(self.reruns)} rerun'

    def add(self, lines: Iterable[str]) -> None:
        """Fold the plugin's lines, one a phase, into an outcome a test."""
        for line in lines:
            report = json.loads(line)
            test = report['test']
            if report['outcome'] == 'rerun':
                self.reruns.add(test)
                self.outcomes.pop(test, None)
            elif report['outcome'] == 'failed':
                self.outcomes[test], self.errors[test] = 'failed', report['error']
            elif self.outcomes.get(test) != 'failed' and (report['phase'] == 'call' or report['outcome'] == 'skipped'):
                self.outcomes[test] = report['outcome']


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def run(scheme: str, folder: Path, file: Path, select: Optional[str] = None, expected: Iterable[str] = ()) -> Result:
    """Run `file` of the suite in `folder` with the transport of `scheme`.

    Arguments:
        select: pytest's ``-k``.
        expected: ids of tests that need not be run again where they fail.
    """
    port = str(_free_port())
    with EmbeddedRedis(None, '--port', port, '--bind', '127.0.0.1'), tempfile.TemporaryDirectory() as scratch:
        outcomes = Path(scratch, 'outcomes')
        outcomes.touch()
        environment = {
            **os.environ,
            'TEST_BROKER': f'{scheme}://127.0.0.1:{port}/0', 'TEST_BACKEND': f'redis://127.0.0.1:{port}/0',
            'REDIS_HOST': '127.0.0.1', 'REDIS_PORT': port, 'REDIS_6379_TCP': port,
            'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')]),
            'PYTHONPATH': os.pathsep.join([str(_REPOSITORY), str(folder)]),
            plugin.TRANSPORT: TRANSPORTS[scheme], plugin.OUTCOMES: str(outcomes),
            plugin.EXPECTED: '\n'.join(expected),
        }
        command = [sys.executable, '-m', 'pytest', str(file), '-p', plugin.__name__, '-p', 'celery.contrib.pytest',
                   '-p', 'no:cacheprovider', '-v', '--timeout', str(TEST_TIMEOUT), *(['-k', select] if select else [])]
        result = Result(log=_finish(command, folder, environment))
        result.add(outcomes.read_text().splitlines())
    return result


def _finish(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What the command printed; it leaves no process behind."""
    with tempfile.TemporaryFile('w+', errors='replace') as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            process.wait(FILE_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.write(f'\nended after {FILE_TIMEOUT} s\n')
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        log.seek(0)
        return log.read()
