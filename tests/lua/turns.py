"""What a list of turns, the tenants in the order they were served, says of fairness."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise

from celery_qos.publication import Publication
from celery_qos.scripts import script
from tests.lua.hand import Hand

__all__ = ('backlog', 'fill', 'jain', 'longest_block', 'longest_wait')


def longest_block(turns: Sequence[str], who: str) -> int:
    return max((len(list(group)) for name, group in groupby(turns) if name == who), default=0)


def longest_wait(turns: Sequence[str], who: str) -> int:
    """Most turns between two of its own, the start and the end counted as its own."""
    places = [-1, *(place for place, name in enumerate(turns) if name == who), len(turns)]
    return max(later - earlier - 1 for earlier, later in pairwise(places))


def jain(shares: Iterable[float]) -> float:
    """Jain's index of fairness: 1 where all have the same, 1 / n where one has all."""
    each = list(shares)
    return sum(each) ** 2 / (len(each) * sum(share ** 2 for share in each))


def fill(hand: Hand, tenants: Iterable[tuple[str, int]], sub_queue: str = '') -> None:
    """Publish so many tasks of each tenant, without waiting for each reply."""
    enqueue = script('enqueue')
    hand.redis.script_load(enqueue.source)
    pipe = hand.redis.pipeline(transaction=False)
    for tenant, times in tenants:
        for _ in range(times):
            fields = {'number': str(next(hand.numbers)), 'tenant': tenant}
            publication = Publication(hand.queue, tenant, 5, fields, sub_queue)
            pipe.evalsha(enqueue.sha, 1, hand.ns, *publication.arguments)
            if len(pipe) == 1000:
                pipe.execute()
    pipe.execute()


def backlog(hand: Hand, weights: Mapping[str, float], turns: int) -> None:
    """Every tenant has a weight, and enough waiting to be backlogged for all of `turns`; then there is a worker."""
    for tenant, weight in weights.items():
        hand.set_weight(tenant, weight)
    fill(hand, [(tenant, int(turns * weight / sum(weights.values())) + 2) for tenant, weight in weights.items()])
    hand.hire()
