"""How long a tenant with one task waits while others have a backlog."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .brokers import Broker
from .figures import BenchmarkError, Figure, Size, quantile
from .load import load
from .records import Records
from .worker import Worker

__all__ = ('cases', 'noisy_of', 'WAIT')

#: What the figure is called that is drawn.
WAIT = 'wait, p50'
#: Seconds that a task takes.
_WORK = 0.005
#: Seconds that a worker may take, besides four times those of its tasks.
_TIMEOUT = 30.0
#: Seconds between two quiet tenants.
_EVERY = 0.1


class Fairness(NamedTuple):
    """Milliseconds that tenants wait who come one after the other with a task each, each new to the queue.

    A worker of pool solo, with Celery's default prefetch of 4, has the noisy tenants' backlog before it all the while.
    The first of them comes when as many tasks have run as there are noisy tenants at most: who comes at one instant is
    served in the order of arrival.
    """

    noisy: int
    #: Tasks of all noisy tenants together.
    backlog: int
    #: Tasks that run before the first quiet tenant comes.
    before: int
    #: Tenants with one task.
    quiet: int
    brokers: tuple[str, ...] = ('qos', 'redis')
    workload: str = 'fairness'
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.noisy:,} noisy tenant{"s" if self.noisy > 1 else ""}'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        noisy = [f'noisy-{number}' for number in range(self.noisy)]
        quiet = [f'quiet-{number}' for number in range(self.quiet)]
        with Records() as records, Worker(broker, records) as worker:
            load(broker, 'backlog', tenants=noisy, number=self.backlog, seconds=_WORK)
            worker.go()
            fine = records.wait(self.before, _TIMEOUT + 4 * self.before * _WORK, [worker])
            published = load(broker, 'spaced', tenants=quiet, every=_EVERY, seconds=_WORK, first=self.backlog)
            if not fine or not records.wait(self.quiet, _TIMEOUT + 4 * self.backlog * _WORK, [worker],
                                            above=self.backlog):
                raise BenchmarkError(f'{self.name}: {len(records)} tasks ran in time\n{worker.log()}')
            waits = [(run.started - published[run.number - self.backlog]) * 1000
                     for run in records.read() if run.number >= self.backlog]
        for share, label in ((0.5, WAIT), (1.0, 'wait, max')):
            yield Figure(self.workload, self.name, label, broker.name, quantile(waits, share), 'ms')


def cases(size: Size) -> Iterator[Fairness]:
    backlog, quiet = size.of((4000, 50), (2000, 20), (150, 5))
    counts = size.of((1, 10, 100, 1000), (1, 10, 1000), (10,))
    for noisy in counts:
        yield Fairness(noisy, backlog, counts[-1], quiet)


def noisy_of(case: str) -> int:
    """The number of noisy tenants in a case of that name."""
    return int(case.split()[0].replace(',', ''))
