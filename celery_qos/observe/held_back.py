"""What keeps a tenant's first task from being served: a pause, a limit, no worker, no room, or others before it."""
from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple, Optional

from .. import keys
from ..look import Glance, Look
from ..store import Store
from .words import counted, duration, named, rate_of

__all__ = ('Reason', 'what_holds_back', 'NO_WORKER')

NO_WORKER = 'no worker has a lease on this queue'


class Reason(NamedTuple):
    #: One of `why.STATES`.
    state: str
    sentence: str
    facts: dict[str, Any]


def what_holds_back(store: Store, look: Look, queue: str, tenant_id: str) -> Reason:
    """Of a tenant that has some waiting."""
    now = look.glance(queue)
    for node, of, name in _above(tenant_id):
        if reason := _limit(store, look, queue, now, node, of, name):
            return reason
    if not now.is_served:
        return Reason('waiting', NO_WORKER, {'slots': 0})
    if now.egress < now.places:
        free = now.places - now.egress
        slots = f'{counted(free, "slot")} {"is" if free == 1 else "are"} free'
        return Reason('waiting', f'{slots}, and its turn comes with the next dispatch', {
            'slots': now.slots, 'idle_slots': now.idle_slots})
    before = [look.before(queue, node, child) or 0 for node, child in _contests(look, queue, tenant_id)]
    return Reason('waiting', f'{_full(now)}, and its turn {_turn(look.has_root(queue), tenant_id, before)}', {
        'before': before, 'slots': now.slots})


def _limit(store: Store, look: Look, queue: str, now: Glance, node: str, of: str, name: str) -> Optional[Reason]:
    """What is set of this node that holds it back."""
    options = store.settings(queue, of)
    if options.get('paused'):
        return Reason('paused', f'{name} is paused', {'paused': name})
    until, cap, rate = look.parked_until(queue, node), options.get('max_in_flight'), options.get('rate')
    if until == inf and cap is not None:
        in_flight = look.tracked_of(queue, [of])[0] or 0
        return Reason('capped', f'{name} is at its cap, {in_flight} of {cap} in flight', {
            'capped': name, 'in_flight': in_flight, 'max_in_flight': cap})
    if until is not None and until < inf and rate:
        seconds = max(0.0, (until - now.now_ms) / 1000)
        used_up = f'{name} has used up its rate of {rate_of(rate)}'
        return Reason('throttled', f'{used_up}: the next may start in {duration(seconds)}', {
            'throttled': name, 'rate': rate, 'seconds': seconds})
    return None


def _full(now: Glance) -> str:
    if now.places < now.slots:
        return f'egress is at its capacity of {now.places:,}'
    return f'all {counted(now.slots, "slot")} are taken' if now.slots > 1 else 'the only slot is taken'


def _turn(has_root: bool, tenant_id: str, before: list[int]) -> str:
    """When its turn comes; `before`: how many others are before it, or before what it is inside, at each level.

    With weights some of these have several turns before, so that no number of tasks can be said.
    """
    if not any(before):
        return 'is next'
    if len(before) == 1:
        return f'comes after {counted(before[0], "other tenant")}'
    names = ['its sub-queue '] if has_root else []
    names += [f'tenant {named(path)} ' for path in _paths(tenant_id.partition(':')[2])[:-1]] + ['']
    places = [f'{name}{f"after {count:,}" if count else "next"}' for name, count in zip(names, before)]
    return f'comes after others: {", in it ".join(places)}'


def _paths(path: str) -> list[str]:
    """A tenant's path after those of the tenants that it is inside, the outermost first."""
    parts = path.split(keys.PART)
    return [keys.PART.join(parts[:count]) for count in range(1, len(parts) + 1)]


def _above(tenant_id: str) -> Iterator[tuple[str, str, str]]:
    """From the sub-queue down to the tenant: the node, what its settings are called, what people call it."""
    sub_queue, _, path = tenant_id.partition(':')
    if sub_queue:
        yield sub_queue, f'sub:{sub_queue}', f'sub-queue {sub_queue!r}'
    for each in _paths(path):
        yield f'{sub_queue}:{each}', f'tenant:{each}', f'tenant {named(each)}'


def _contests(look: Look, queue: str, tenant_id: str) -> Iterator[tuple[str, str]]:
    """Node and child, from the top of the scheduling tree down to the tenant."""
    sub_queue, _, path = tenant_id.partition(':')
    node = ''
    if look.has_root(queue):
        yield keys.ROOT, sub_queue
        node = sub_queue
    for each in _paths(path):
        yield node, f'{sub_queue}:{each}'
        node = f'{sub_queue}:{each}'
