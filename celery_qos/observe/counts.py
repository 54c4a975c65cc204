"""What has happened on a queue since it exists, of what is rare: each script counts what it does."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from redis import Redis

from .. import keys
from ..config import ON_FULL

__all__ = ('counts', 'summed', 'RARE', 'DEAD', 'REFUSED')

#: Deliveries after a worker died, stopped or lost its connection, or a task was requeued; leases that ended; times that a
#: limit or a pause held a tenant or a sub-queue back; tasks that expired in Redis; delayed tasks that were revoked there.
RARE = ('redelivered', 'recovered', 'throttled', 'expired', 'revoked')
#: Dead letters, by what the reason begins with; ``dead-other`` is any other reason.
DEAD = ('dead-rejected', 'dead-delivered', 'dead-malformed', 'dead-full', 'dead-other')
#: What became of tasks that found no room.
REFUSED = tuple(ON_FULL)
_SUB_QUEUES_PER_CALL = 50


def counts(client: Redis, ns: str, sub_queues: Iterable[str] = ()) -> dict[tuple[str, str], int]:
    """(one of `RARE`, `DEAD` and `REFUSED`, sub-queue) to how often; only ever more. Nothing is counted twice.

    Arguments:
        ns: the queue's namespace.
        sub_queues: the names of those that it has, or had. '', which is always in the answer, has what happened to no
            sub-queue, or to none that is declared.
    """
    found: dict[tuple[str, str], int] = {}
    names = list(dict.fromkeys(['', *sub_queues]))
    for start in range(0, len(names), _SUB_QUEUES_PER_CALL):
        asked = [(what, name) for name in names[start:start + _SUB_QUEUES_PER_CALL] for what in (*RARE, *DEAD, *REFUSED)]
        values: Any = client.hmget(keys.settings(ns), [
            f'{"count" if what in REFUSED else "total"}:{what}:{name}'.encode(errors='surrogateescape')
            for what, name in asked])
        found.update((each, int(value) if (value or b'').isdigit() else 0) for each, value in zip(asked, values))
    return found


def summed(found: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """What `counts` found, of all sub-queues; the kinds of dead letters together as ``dead``."""
    sums: Counter[str] = Counter()
    for (what, _), number in found.items():
        sums['dead' if what in DEAD else what] += number
    return dict(sums)
