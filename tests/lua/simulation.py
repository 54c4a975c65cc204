"""Workers in simulated time: tasks take the seconds that they are said to, and none of ours."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from celery_qos.store import Delivery
from tests.lua.hand import Hand

__all__ = ('Simulation', 'Ended')


class Ended(NamedTuple):
    """A task that has ended."""

    at: float
    tenant: str
    seconds: float


class Simulation:
    """A worker with some processes that each run a task at a time.

    Arguments:
        seconds: what a tenant's next task takes.
        slots: how many tasks it holds; as many as it has processes by default.
        early: acknowledge a task when it starts, which frees its slot, and not when it ends.
    """

    def __init__(self, hand: Hand, seconds: Callable[[str], float], processes: int = 1, slots: int = 0,
                 early: bool = False) -> None:
        self.hand, self.seconds, self.processes, self.early = hand, seconds, processes, early
        self.now = 0.0
        #: Worker-seconds by tenant.
        self.service: defaultdict[str, float] = defaultdict(float)
        self._order = count()
        #: Delivered, but not started.
        self.held: list[Delivery] = []
        self._arrived: list[Delivery] = []
        #: By the time they end.
        self.busy: list[tuple[float, int, float, Delivery]] = []
        hand.hire(slots=slots or processes)

    def start(self) -> None:
        """Give every idle process a task, as far as there are any."""
        self._read()
        while self.held and len(self.busy) < self.processes:
            delivery = self.held.pop(0)
            seconds = self.seconds(delivery.fields[b'tenant'].decode())
            heappush(self.busy, (self.now + seconds, next(self._order), seconds, delivery))
            if self.early:
                # One that is not tracked is settled for good.
                (self.hand.start if b'tracked' in delivery.fields else self.hand.settle)(delivery)
                self._read()

    def arrivals(self) -> list[Delivery]:
        """What was delivered since this was asked last."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def _read(self) -> None:
        read = self.hand.read()
        self.held += read
        self._arrived += read

    def ended(self, until: float) -> Iterator[Ended]:
        """Tasks that end until then, one by one, as long as there are any."""
        self.start()
        while self.busy and self.busy[0][0] <= until:
            self.now, _, seconds, delivery = heappop(self.busy)
            tenant = delivery.fields[b'tenant'].decode()
            self.service[tenant] += seconds
            # What it used up is known before its slot goes to another.
            yield Ended(self.now, tenant, seconds)
            self.hand.finish(delivery, seconds=seconds)
            self.start()
        self.now = max(self.now, until if until < inf else 0)

    def run(self, until: float) -> dict[str, float]:
        """Worker-seconds by tenant until then, those of tasks that are still running included."""
        for _ in self.ended(until):
            pass
        service = dict(self.service)
        for end, _, seconds, delivery in self.busy:
            tenant = delivery.fields[b'tenant'].decode()
            service[tenant] = service.get(tenant, 0.0) + seconds - (end - until)
        return service
