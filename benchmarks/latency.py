"""How long it takes from publishing a task to its start, and from the end of one to the start of the next."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

from .brokers import Broker
from .figures import BenchmarkError, Figure, Size, quantile
from .load import TENANTS, WARM_UP, load
from .records import Records
from .worker import Worker

__all__ = ('cases',)

_OTHERS = ('qos', 'redis', 'redis-plus', 'rabbitmq')
#: Seconds that a task takes where the worker is under load.
_WORK = 0.01
#: Seconds between two tasks where it is idle.
_IDLE = 0.02
#: Seconds that a worker may take for what it has been sent.
_TIMEOUT = 30.0
#: Seconds that the gaps are looked at: a broker may have gaps of seconds.
_GAPS_TIMEOUT = 12.0


class Latency(NamedTuple):
    """Milliseconds from before the call of `delay` to the first line of the task."""

    pool: str
    concurrency: int
    number: int
    #: Share of the time that the worker is busy with tasks; 0 for tasks that do nothing, each published after the last.
    load: float
    brokers: tuple[str, ...] = _OTHERS
    workload: str = 'latency'
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.pool}, {f"{self.load:.0%} load" if self.load else "idle"}'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        tenants = [str(number % TENANTS) for number in range(self.number)]
        every, seconds = (_WORK / self.load / self.concurrency, _WORK) if self.load else (_IDLE, 0.0)
        with Records() as records, Worker(broker, records, self.pool, self.concurrency) as worker:
            worker.go()
            published = load(broker, 'spaced', tenants=tenants, every=every, seconds=seconds,
                             at_random=bool(self.load))
            if not records.wait(self.number + 1, _TIMEOUT, [worker]):
                raise BenchmarkError(f'{len(records)} of {self.number} tasks ran\n{worker.log()}')
            waits = [(run.started - published[run.number]) * 1000 for run in records.read() if run.number != WARM_UP]
        yield from _quantiles(self.name, 'wait', broker, waits)


class Gap(NamedTuple):
    """Milliseconds between back-to-back tasks of a worker that takes one at a time: late ack, multiplier 1."""

    pool: str
    number: int
    brokers: tuple[str, ...] = _OTHERS
    workload: str = 'latency'
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.pool}, back to back'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with Records() as records, Worker(broker, records, self.pool, 1, late=True, multiplier=1) as worker:
            load(broker, 'bulk', number=self.number, size=100)
            worker.go()
            records.wait(self.number, _GAPS_TIMEOUT, [worker])
            runs = records.read()
        # The first ones pay for what is imported and connected late.
        runs = runs[min(10, len(runs) // 3):]
        if len(runs) < 2:
            raise BenchmarkError(f'{self.name}: {len(runs)} tasks within {_GAPS_TIMEOUT:g} s\n{worker.log()}')
        gaps = [(run.started - last.ended) * 1000 for last, run in zip(runs, runs[1:])]
        yield from _quantiles(self.name, 'gap', broker, gaps)


def _quantiles(case: str, name: str, broker: Broker, values: Sequence[float]) -> Iterator[Figure]:
    for share, label in ((0.5, 'p50'), (0.99, 'p99'), (1.0, 'max')):
        yield Figure('latency', case, f'{name}, {label}', broker.name, quantile(values, share), 'ms')


def cases(size: Size) -> Iterator[Union[Latency, Gap]]:
    idle, busy, gaps = size.of((500, 1000, 500), (150, 300, 200), (20, 20, 20))
    if size is Size.SMOKE:
        yield Latency('solo', 1, idle, 0.0, ('qos',))
        yield Latency('prefork', 2, busy, 0.5, ('qos',))
        yield Gap('gevent', gaps, ('qos',))
        return
    for pool, concurrency in (('solo', 1), ('prefork', 2)):
        yield Latency(pool, concurrency, idle, 0.0)
        yield Latency(pool, concurrency, busy, 0.5)
    for pool in ('solo', 'threads', 'prefork', 'gevent'):
        yield Gap(pool, gaps)
