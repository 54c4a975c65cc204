"""What has happened in a queue since it exists, counted by the scripts that did it."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..config import ON_FULL
from ..look import Look

__all__ = ('counts_of', 'counts_by_sub_queue', 'RARE', 'DEAD', 'REFUSED')

#: Deliveries after a worker died, stopped or lost its connection, or a task was requeued; leases that ended; times that
#: a limit or a pause held a tenant or a sub-queue back; tasks that expired before they were delivered; delayed tasks
#: that were revoked.
RARE = ('redelivered', 'recovered', 'throttled', 'expired', 'revoked')
#: Dead letters, by what the reason begins with; ``dead-other`` is any other reason.
DEAD = ('dead-rejected', 'dead-delivered', 'dead-malformed', 'dead-full', 'dead-other')
#: What became of tasks that found no room.
REFUSED = tuple(ON_FULL)


def counts_by_sub_queue(look: Look, queue: str, sub_queues: Sequence[str]) -> dict[tuple[str, str], int]:
    """(one of `RARE`, `DEAD` and `REFUSED`, sub-queue) to how often; nothing is counted twice.

    Under '' is what happened in no sub-queue, or in none that is declared.
    """
    asked = [(what, place) for place in dict.fromkeys(['', *sub_queues]) for what in (*RARE, *DEAD, *REFUSED)]
    names = [f'{"count" if what in REFUSED else "total"}:{what}:{place}' for what, place in asked]
    return dict(zip(asked, look.totals(queue, names)))


def counts_of(look: Look, queue: str, sub_queues: Sequence[str]) -> dict[str, int]:
    """What to how often, over all sub-queues; dead letters of all kinds are `dead`."""
    sums: Counter[str] = Counter()
    for (what, _), count in counts_by_sub_queue(look, queue, sub_queues).items():
        sums['dead' if what in DEAD else what] += count
    return dict(sums)
