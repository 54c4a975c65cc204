"""The same contest at each level of the scheduling tree."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Optional

from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.keys import PART
from tests.lua.hand import Hand
from tests.lua.turns import fill

__all__ = ('Contest', 'LEVELS')

LEVELS = ('tenants', 'sub-queues', 'inner tenants')


class Contest:
    """Contenders of one level, one slot, each task ended before the next one is read.

    Arguments:
        level: one of `LEVELS`.
        weights: of each contender, in declared order.
        seconds: what a task of each takes; 1 where it is not said.
    """

    def __init__(self, hand: Hand, level: str, algorithm: str, weights: Mapping[str, float],
                 seconds: Optional[Mapping[str, float]] = None) -> None:
        self.hand, self.level, self.seconds = hand, level, seconds or {}
        if level == 'sub-queues':
            qos = QoS(algorithm, [SubQueue(name, 100_000, weight) for name, weight in weights.items()])
        elif level == 'tenants':
            qos = QoS(algorithm, tenants={name: Tenant(weight) for name, weight in weights.items()})
        else:
            qos = QoS(algorithm, tenants={('outer', name): Tenant(weight) for name, weight in weights.items()})
        hand.configure(qos)
        hand.hire()

    def put(self, who: str, times: int = 1) -> None:
        """Publish tasks of a contender."""
        if self.level == 'sub-queues':
            fill(self.hand, [('tenant', times)], who)
        else:
            fill(self.hand, [(who if self.level == 'tenants' else f'outer{PART}{who}', times)])

    def turns(self) -> Iterator[str]:
        """Contenders in the order they are served."""
        while read := self.hand.read(at_most=1):
            fields = read[0].fields
            who = (fields[b'sub'] if self.level == 'sub-queues' else fields[b'tenant']).decode().split(PART)[-1]
            self.hand.finish(*read, seconds=self.seconds.get(who, 1.0))
            yield who

    def serve(self, turns: int) -> list[str]:
        return list(islice(self.turns(), turns))
