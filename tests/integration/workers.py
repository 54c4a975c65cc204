"""Starts a real ``celery worker`` in a process of its own, and ends it as told."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Optional, Union

__all__ = ('ROOT', 'Worker', 'environment')

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a worker may take until it is ready, or until it has ended.
TIMEOUT = 40.0


def environment(broker_url: str, backend_url: str = '', env: Optional[Mapping[str, Any]] = None) -> dict[str, str]:
    """The environment from which an app module of `tests.integration.apps` takes its URLs."""
    return {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PYTHONUNBUFFERED': '1',
        'QOS_TEST_BROKER': broker_url,
        'QOS_TEST_BACKEND': backend_url,
        **{name: str(value) for name, value in (env or {}).items()},
    }


class Worker:
    """A worker, started on entry and killed on exit with all of its children.

    Arguments:
        server: the broker's URL, or a running `EmbeddedRedis`.
        app: the module of the app, which reads its URLs from the environment.
        options: further words of the command line.
        env: further variables of the environment.
        backend: URL of the result backend; that of `server` by default.
        ready: False to return at once; True waits for the line of Celery's log that says ready.
    """

    def __init__(self, server: Any, pool: str = 'prefork', concurrency: int = 2,
                 app: str = 'tests.integration.apps.basic', options: Iterable[str] = (),
                 env: Optional[Mapping[str, Any]] = None, backend: Optional[str] = None,
                 ready: bool = True, level: str = 'INFO', name: Optional[str] = None) -> None:
        broker: str = server if isinstance(server, str) else server.url('qos')
        if backend is None:
            backend = '' if isinstance(server, str) else server.url('redis', 1)
        self.pool = pool
        self.name = name or f'w{next(_numbers)}@test'
        self._command = [sys.executable, '-m', 'celery', '-A', app, 'worker', '-P', pool, '-c', str(concurrency),
                         '-l', level, '-n', self.name, *options]
        self._env = environment(broker, backend, env)
        self._ready = ready
        self._process: Optional[subprocess.Popen] = None
        self.logfile: Optional[Path] = None

    @property
    def pid(self) -> int:
        assert self._process is not None, 'not started'
        return self._process.pid

    @property
    def returncode(self) -> Optional[int]:
        """None while it runs."""
        assert self._process is not None, 'not started'
        return self._process.poll()

    def start(self) -> Worker:
        handle, path = tempfile.mkstemp(prefix='celery-qos-worker-', suffix='.log')
        self.logfile = Path(path)
        try:
            self._process = subprocess.Popen(
                self._command, env=self._env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=handle,
                stderr=subprocess.STDOUT, start_new_session=True)
        finally:
            os.close(handle)
        if self._ready:
            try:
                self.wait_for(r'\bready\.')
            except BaseException:
                self.stop()
                raise
        return self

    def log(self) -> str:
        """What it has written so far, on both streams."""
        assert self.logfile is not None, 'not started'
        return self.logfile.read_text(errors='replace')

    def wait_for(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """The first place in the log that matches `pattern`; fails where the worker ends without it."""
        deadline = monotonic() + timeout
        while True:
            ended = self.returncode is not None
            match = re.search(pattern, self.log())
            if match:
                return match
            assert not ended, f'the worker ended with {self.returncode} before {pattern!r}:\n{self.log()}'
            assert monotonic() < deadline, f'not within {timeout:g} s: {pattern!r} in the log:\n{self.log()}'
            sleep(0.02)

    def signal(self, number: Union[int, signal.Signals]) -> None:
        """To the main process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the main process and its children at once, as a crash of the machine would."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def terminate(self) -> None:
        """Ask for a warm shutdown; `wait` waits for its end."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None, 'not started'
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'the worker did not end within {timeout:g} s:\n{self.log()}') from None

    def stop(self) -> None:
        """Kill it, and forget its log."""
        self.kill()
        if self.logfile is not None:
            self.logfile.unlink(missing_ok=True)

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, kind: Optional[type[BaseException]], *exc_info: object) -> None:
        if kind is not None:
            print(f'-- log of {self.name}:\n{self.log()}', file=sys.stderr)
        self.stop()


def _count():
    number = 0
    while True:
        number += 1
        yield number


_numbers = _count()
