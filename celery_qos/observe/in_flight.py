"""Whose tasks are in flight: delivered, or acknowledged at their start and running."""
from __future__ import annotations

from collections import Counter

from .. import keys
from ..look import Look

__all__ = ('in_flight_of',)


def in_flight_of(look: Look, queue: str) -> Counter[str]:
    """Tenant's id to its number of tasks in egress and, where these are counted, of those that run too.

    What is inside another tenant counts there as well.
    """
    tasks = Counter(look.held(queue))
    tasks.update(tenant_id for _, tenant_id in set(look.running(queue)))
    found: Counter[str] = Counter()
    for tenant_id, count in tasks.items():
        for each in _with_those_above(tenant_id):
            found[each] += count
    if not look.has_root(queue):
        # Who may not read tasks is told of those that limits count. What is in which sub-queue these do not say.
        for subject, count in look.tracked(queue):
            kind, _, path = subject.partition(':')
            if kind == 'tenant' and count:
                found[f':{path}'] = max(found[f':{path}'], count)
    return found


def _with_those_above(tenant_id: str) -> list[str]:
    sub_queue, _, path = tenant_id.partition(':')
    parts = path.split(keys.PART)
    return [f'{sub_queue}:{keys.PART.join(parts[:count])}' for count in range(1, len(parts) + 1)]
