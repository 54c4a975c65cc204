"""Starts ``celery worker`` processes, and ends them."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from .figures import BenchmarkError

if TYPE_CHECKING:
    from .brokers import Broker
    from .records import Records

__all__ = ('Worker',)

#: Seconds that a worker may take until it is ready.
_TIMEOUT = 60.0
_numbers = count(1)


class Worker:
    """A worker that is ready and takes tasks once `go` is called; killed with its children on exit.

    Arguments:
        late: whether tasks are acknowledged late.
        multiplier: of the prefetch; Celery's default is 4.
        options: further words of the command line.
    """

    def __init__(self, broker: Broker, records: Records, pool: str = 'solo', concurrency: int = 1, late: bool = False,
                 multiplier: int = 4, options: Sequence[str] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix='celery-qos-bench-'))
        self._command = [sys.executable, '-m', 'celery', '-A', 'benchmarks.app', 'worker', '-P', pool,
                         '-c', str(concurrency), '-l', 'WARNING', '-n', f'bench{next(_numbers)}@localhost',
                         *broker.worker_options, *options]
        self._env = {**broker.environment(), 'BENCH_LATE': str(int(late)), 'BENCH_MULTIPLIER': str(multiplier),
                     'BENCH_RECORDS': records.path, 'BENCH_FOLDER': str(self._folder)}

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> Worker:
        """Start it without waiting."""
        with open(self._folder / 'log', 'wb') as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        return self

    def wait(self) -> Worker:
        """Until it is ready."""
        deadline = monotonic() + _TIMEOUT
        while not (self._folder / 'ready').exists():
            self.check()
            if monotonic() > deadline:
                raise BenchmarkError(f'a worker was not ready within {_TIMEOUT:g} s:\n{self.log()}')
            sleep(0.01)
        return self

    def go(self) -> None:
        """Let it take tasks."""
        (self._folder / 'go').touch()

    def log(self) -> str:
        return (self._folder / 'log').read_text(errors='replace')

    def check(self) -> None:
        """Raise `BenchmarkError` where it has ended by itself."""
        if self._process.poll() is not None:
            raise BenchmarkError(f'a worker ended with {self._process.returncode}:\n{self.log()}')

    def stop(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()

    def __enter__(self) -> Worker:
        self.start()
        try:
            return self.wait()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
