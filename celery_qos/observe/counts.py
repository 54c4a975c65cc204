"""What has happened in a queue since it exists, counted by the scripts that did it."""
from __future__ import annotations

from collections.abc import Sequence

from ..config import ON_FULL
from ..look import Look

__all__ = ('counts_of', 'TOTALS')

#: What is counted of rare events.
TOTALS = ('redelivered', 'recovered', 'dead', 'throttled', 'expired')


def counts_of(look: Look, queue: str, sub_queues: Sequence[str]) -> dict[str, int]:
    """What to how often, over all sub-queues."""
    places = ['', *sub_queues]
    names = {**{what: [f'total:{what}:{place}' for place in places] for what in TOTALS},
             **{what: [f'count:{what}:{place}' for place in places] for what in ON_FULL}}
    found = iter(look.totals(queue, [name for each in names.values() for name in each]))
    return {what: sum(next(found) for _ in each) for what, each in names.items()}
