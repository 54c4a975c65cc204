"""What tasks note when they run: one file that all processes append to, as cheap as a system call.

Nothing of it goes through the broker that is measured, and each broker's tasks pay the same.
"""
from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

from .figures import BenchmarkError

if TYPE_CHECKING:
    from .load import Loading
    from .worker import Worker

__all__ = ('Record', 'Records', 'append', 'count')

_RECORD = struct.Struct('<qdd')


class Record(NamedTuple):
    """One run of a task; times are those of `time.monotonic`, which all processes of a machine share."""

    number: int
    started: float
    ended: float


def append(file: int, number: int, started: float) -> None:
    """Note a run that ends now. Appending a few bytes is atomic."""
    os.write(file, _RECORD.pack(number, started, monotonic()))


def count(path: str) -> int:
    """Runs in a file of records so far."""
    return os.stat(path).st_size // _RECORD.size


class Records:
    """A new file of records; gone on exit."""

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix='celery-qos-bench-', suffix='.records')
        os.close(handle)

    def __len__(self) -> int:
        return count(self.path)

    def read(self) -> list[Record]:
        """All runs, in the order they started."""
        with open(self.path, 'rb') as file:
            return sorted(map(Record._make, _RECORD.iter_unpack(file.read())), key=lambda record: record.started)

    def wait(self, number: int, timeout: float, others: Iterable[Worker | Loading], above: int = 0) -> bool:
        """Until that many tasks have run, of those that are numbered `above` or higher.

        Arguments:
            timeout: seconds; False is returned when they are over.
            others: workers, or a publisher, that must not fail meanwhile.
        """
        deadline = monotonic() + timeout
        while len(self) < number or above and sum(record.number >= above for record in self.read()) < number:
            for other in others:
                other.check()
            if monotonic() > deadline:
                return False
            sleep(0.05 if above else 0.005)
        return True

    def expect(self, number: int, timeout: float, workers: Iterable[Worker]) -> list[Record]:
        """The runs of exactly the tasks that are numbered 0 to `number`, once they are over.

        Raises:
            BenchmarkError: one did not run within `timeout` seconds, or ran twice.
        """
        complete = self.wait(number, timeout, workers)
        runs = self.read()
        if not complete or sorted(run.number for run in runs) != list(range(number)):
            logs = '\n'.join(worker.log() for worker in workers)
            raise BenchmarkError(f'of {number} tasks, {len({run.number for run in runs})} ran within {timeout:g} s, '
                                 f'{len(runs)} times in all\n{logs}')
        return runs

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.unlink(self.path)
