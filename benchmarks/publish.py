"""How fast tasks are published."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .brokers import BROKERS, Broker
from .figures import Figure, Size
from .load import load

__all__ = ('cases',)


class Publish(NamedTuple):
    """Tasks published a second, by one process, with no worker there."""

    how: str
    size: int
    number: int
    workload: str = 'publish'
    brokers: tuple[str, ...] = tuple(BROKERS)
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.how}, {self.size // 1000} KB'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        seconds, cpu = load(broker, 'timed', how=self.how, number=self.number, size=self.size)
        yield Figure(self.workload, self.name, 'rate', broker.name, self.number / seconds, 'tasks/s')
        yield Figure(self.workload, self.name, 'CPU of the publisher', broker.name,
                     cpu / self.number * 1e6, 'us a task')


def cases(size: Size) -> Iterator[Publish]:
    number = size.of(5_000, 2_000, 100)
    for how in ('single', 'group', 'bulk')[:size.of(3, 3, 2)]:
        yield Publish(how, 1_000, number)
        if size is not Size.SMOKE:
            yield Publish(how, 100_000, number // 10)
