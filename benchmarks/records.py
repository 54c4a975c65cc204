"""What tasks note when they run: one file that all processes append to, as cheap as a system call.

Nothing of it goes through the broker that is measured, and each broker's tasks pay the same.
"""
from __future__ import annotations

import os
import struct
import tempfile
from time import monotonic, sleep
from typing import NamedTuple, Optional

from .figures import BenchmarkError
from .worker import Worker

__all__ = ('Record', 'Records', 'append')

_RECORD = struct.Struct('<qdd')


class Record(NamedTuple):
    """One run of a task; times are those of `time.monotonic`, which all processes of a machine share."""

    number: int
    started: float
    ended: float


def append(file: int, number: int, started: float) -> None:
    """Note a run that ends now. Appending a few bytes is atomic."""
    os.write(file, _RECORD.pack(number, started, monotonic()))


class Records:
    """A new file of records; gone on exit."""

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix='celery-qos-bench-', suffix='.records')
        os.close(handle)

    def __len__(self) -> int:
        return os.stat(self.path).st_size // _RECORD.size

    def __bool__(self) -> bool:
        return True

    def read(self) -> list[Record]:
        """All runs, in the order they started."""
        with open(self.path, 'rb') as file:
            return sorted(map(Record._make, _RECORD.iter_unpack(file.read())), key=lambda record: record.started)

    def wait(self, number: int, timeout: float, *workers: Worker, enough: Optional[int] = None) -> None:
        """Until that many tasks have run.

        Arguments:
            timeout: seconds.
            workers: that must not end meanwhile.
            enough: so many do when the time is over.
        """
        deadline = monotonic() + timeout
        while len(self) < number:
            for worker in workers:
                worker.check()
            if monotonic() > deadline:
                if enough is not None and len(self) >= enough:
                    return
                logs = '\n'.join(worker.log() for worker in workers)
                raise BenchmarkError(f'{len(self)} of {number} tasks ran within {timeout:g} s\n{logs}')
            sleep(0.005)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.unlink(self.path)
