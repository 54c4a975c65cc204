"""How fast workers get through tasks that do nothing and that wait when they start."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from .brokers import Broker
from .figures import Figure, Size
from .load import load
from .records import Record, Records
from .worker import Worker

__all__ = ('cases', 'CONCURRENCY')

#: Of each pool. A green one is there for many tasks at a time.
CONCURRENCY = {'solo': 1, 'threads': 2, 'prefork': 2, 'gevent': 100}
#: Bytes that a task carries.
_PAYLOAD = 100


class Drain(NamedTuple):
    """Tasks a second from the first one's start to the last one's end, noted by the workers themselves."""

    pool: str
    late: bool
    number: int
    #: Seconds that workers may take; what they have done by then is what counts.
    limit: float
    brokers: tuple[str, ...]
    workers: int = 1
    workload: str = 'drain'
    once: bool = False

    @property
    def name(self) -> str:
        workers = f', {self.workers} workers' if self.workers > 1 else ''
        return f'{self.pool}, {"late" if self.late else "default"} ack{workers}'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with Records() as records, ExitStack() as stack:
            workers = [Worker(broker, records, self.pool, CONCURRENCY[self.pool], self.late, 1 if self.late else 4)
                       for _ in range(self.workers)]
            for worker in workers:
                stack.callback(worker.start().stop)
            load(broker, 'bulk', number=self.number, size=_PAYLOAD)
            for worker in workers:
                worker.wait()
            if broker.name == 'qos':
                broker.client().config_resetstat()
            for worker in workers:
                worker.go()
            runs = self._runs(records, workers)
            yield Figure(self.workload, self.name, 'rate', broker.name,
                         len(runs) / (max(run.ended for run in runs) - runs[0].started), 'tasks/s')
            if broker.name == 'qos':
                reads = broker.client().info('commandstats')['cmdstat_xreadgroup']['calls']
                yield Figure(self.workload, self.name, 'wake-ups', broker.name, reads / len(runs), 'a task')

    def _runs(self, records: Records, workers: list[Worker]) -> list[Record]:
        if not records.wait(self.number, self.limit, workers) and len(records) > 1:
            return records.read()
        return records.expect(self.number, 1.0, workers)


def cases(size: Size) -> Iterator[Drain]:
    number, limit = size.of((20_000, 90.0), (3_000, 20.0), (200, 10.0))
    others = ('qos', 'redis', 'redis-plus', 'rabbitmq')
    if size is Size.SMOKE:
        yield Drain('solo', False, number, limit, others)
        yield Drain('prefork', True, number, limit, ('qos',), workers=2)
        return
    for pool in CONCURRENCY:
        for late in (False, True):
            yield Drain(pool, late, number, limit, others)
    for workers in (2, 4, 8):
        yield Drain('solo', False, number, limit, ('qos',), workers)
