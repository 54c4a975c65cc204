"""Whether a worker's memory grows with the tasks that it has run."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .brokers import Broker
from .figures import BenchmarkError, Figure, Size
from .load import loading
from .records import Records
from .worker import Worker

__all__ = ('cases',)

_STEPS = 10
#: Tasks that wait for the worker, at most.
_AHEAD = 2000
_MB = 1024 * 1024


class Memory(NamedTuple):
    """Resident MB of a worker (pool solo) after each tenth of its tasks."""

    number: int
    #: A tenant of its own for so many of them.
    tenants: int
    brokers: tuple[str, ...] = ('qos',)
    workload: str = 'memory'
    once: bool = True

    @property
    def name(self) -> str:
        return f'{self.number:,} tasks of {self.tenants:,} tenants'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        step = self.number // _STEPS
        sizes = []
        with Records() as records, Worker(broker, records) as worker:
            worker.go()
            with loading(broker, 'throttled', number=self.number, size=100, tenants=self.tenants, records=records.path,
                         ahead=_AHEAD) as publisher:
                for done in range(step, self.number + 1, step):
                    if not records.wait(done, 60 + step / 100, [worker, publisher]):
                        raise BenchmarkError(f'{len(records)} of {done} tasks ran\n{worker.log()}')
                    sizes.append(_resident(worker.pid))
                    yield Figure(self.workload, self.name, f'after {done / self.number:.0%}', broker.name, sizes[-1],
                                 'MB')
        # The first tenth fills what has a fixed size: the last tasks' ids, results and clocks.
        yield Figure(self.workload, self.name, 'growth after 20%', broker.name, sizes[-1] - sizes[1], 'MB')


def _resident(pid: int) -> float:
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / _MB


def cases(size: Size) -> Iterator[Memory]:
    yield Memory(size.of(1_000_000, 50_000, 500), size.of(100_000, 5_000, 50))
