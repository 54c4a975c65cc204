"""Why a task, or a tenant, waits: in one sentence."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, Optional

from .. import keys
from ..codec import time_of
from ..errors import TenantKeyError
from ..look import Found, Look
from ..path import key_of, parse_path
from ..store import Store, to_text

__all__ = ('Why', 'STATES', 'why_task', 'why_tenant', 'why_not_here')

#: What there is to find out about a task or a tenant.
STATES = ('paused', 'capped', 'throttled', 'waiting', 'delayed', 'running', 'dead', 'idle', 'gone', 'unknown')


@dataclass(frozen=True)
class Why:
    """One answer.

    Arguments:
        state: one of `STATES`.
        sentence: the same for people.
        facts: what the sentence says, for programs: `tenant`, `behind`, `turns`, `due`, `worker`, `reason`...
    """

    state: str
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


def why_tenant(store: Store, queue: str, tenant: Any) -> Why:
    """Why the tenant's tasks wait; `unknown` where it has none and no settings of its own."""
    path = parse_path(tenant)
    look = Look(store)
    ids = [f'{name}:{path}' for name in ['', *store.sub_queues(queue)]]
    waiting = dict(zip(ids, look.waiting_of(queue, ids)))
    first = next((each for each in ids if waiting[each]), None)
    facts: dict[str, Any] = {'tenant': key_of(path), 'waiting': sum(waiting.values())}
    if first is not None:
        state, reason, more = _holds_back(store, look, queue, first)
        count = _count(facts['waiting'], 'task')
        return Why(state, f'tenant {_named(path)}: {count} {"waits" if facts["waiting"] == 1 else "wait"}: {reason}',
                   {**facts, **more})
    held = sum(count for each, count in look.held(queue).items() if each in ids)
    tracked = look.tracked_of(queue, [f'tenant:{path}'])[0] or 0
    facts['in_flight'] = max(held, tracked)
    if facts['in_flight']:
        return Why('running', f'tenant {_named(path)}: nothing waits; {_count(facts["in_flight"], "task")} in flight',
                   facts)
    if store.settings(queue, f'tenant:{path}') != store.settings(queue, 'default'):
        return Why('idle', f'tenant {_named(path)}: nothing waits and nothing is in flight', facts)
    return Why('unknown', f'tenant {_named(path)}: nothing waits, nothing is in flight, and nothing is set of it',
               facts)


def why_task(store: Store, queue: str, task_id: str, progress: Callable[[int, int], None]) -> Why:
    """Where the task of this id is; `unknown` where this queue does not have it."""
    return _Search(store, queue, task_id, progress).answer()


def why_not_here(app: Any, task_id: str, timeout: float) -> Optional[Why]:
    """What the workers, or else the result backend, know of a task that is in no queue; None for nothing.

    Arguments:
        timeout: seconds in which workers may answer.
    """
    for worker, tasks in (app.control.inspect(timeout=timeout).query_task([task_id]) or {}).items():
        for state, request in tasks.values():
            name = (request.get('headers') or {}).get('tenant', '')
            return Why('running', f'task {task_id} is {state} in worker {worker}',
                       {'task': task_id, 'tenant': name, 'worker': worker, 'celery_state': state})
    try:
        state = app.AsyncResult(task_id).state
    except Exception:       # no backend, or one that is away: it knows nothing now
        return None
    if state == 'PENDING':      # what a backend says of a task that it never heard of, too
        return None
    return Why('gone', f'task {task_id} is in no queue any more: its result says {state}',
               {'task': task_id, 'celery_state': state})


class _Search:
    """Looks where it is soonest done: the delayed tasks, egress, what waits, the dead letters."""

    def __init__(self, store: Store, queue: str, task_id: str, progress: Callable[[int, int], None]) -> None:
        self._store, self._look, self._queue, self._id = store, Look(store), queue, task_id
        self._progress, self._looked, self._of = progress, 0, 0

    def answer(self) -> Why:
        for place in self._delayed, self._in_egress, self._waiting, self._dead:
            if why := place():
                return why
        # What moved from a place that was not looked at yet to one that was.
        return self._in_egress() or Why('unknown', f'task {self._id}: queue {self._queue!r} does not have it',
                                        {'task': self._id})

    def _delayed(self) -> Optional[Why]:
        tasks = self._store.delayed_by_id(self._queue, self._id)
        if not tasks:
            return None
        first = min(tasks, key=lambda task: task.due_ms)
        due = time_of(first.due_ms)
        seconds = (first.due_ms - self._look.glance(self._queue).now_ms) / 1000
        when = f'in {_duration(seconds)}' if seconds > 0 else f'overdue for {_duration(-seconds)}'
        return Why('delayed', f'task {self._id} of tenant {_named(first.tenant)} is delayed until '
                   f'{due.isoformat(timespec="seconds")}, {when}',
                   {'task': self._id, 'tenant': key_of(first.tenant), 'due': due.isoformat()})

    def _in_egress(self) -> Optional[Why]:
        for stream in self._look.egress_streams(self._queue):
            if found := self._find(stream):
                consumer = self._look.consumer_of(stream, found.entry_id)
                facts = {**self._facts(found), 'worker': consumer}
                if consumer is None:
                    return Why('running', f'{self._name(found)} has its slot: a worker takes it next', facts)
                return Why('running', f'{self._name(found)} was delivered to {consumer}, which runs it or has it next',
                           facts)
        return None

    def _waiting(self) -> Optional[Why]:
        self._of = self._look.glance(self._queue).waiting
        ids = (each for each, _ in self._look.waiting_ids(self._queue) if ':' in each)
        place = self._look.find_waiting(self._queue, self._id, ids, self._count)
        if not place:
            return None
        tenant_id, found = place
        state, reason, more = _holds_back(self._store, self._look, self._queue, tenant_id)
        own = f'behind {_count(found.before, "task")} of its own tenant; ' if found.before else ''
        return Why(state, f'{self._name(found)} waits: {own}{reason}',
                   {**self._facts(found), **more, 'behind': found.before})

    def _dead(self) -> Optional[Why]:
        found = self._find(self._look.dead_stream(self._queue))
        if not found:
            return None
        reason = to_text(found.fields.get(b'reason', b''))
        return Why('dead', f'{self._name(found)} is a dead letter: {reason}',
                   {**self._facts(found), 'reason': reason, 'letter': found.entry_id})

    def _find(self, stream: str) -> Optional[Found]:
        return self._look.find(self._queue, self._id, stream, self._count)

    def _count(self, looked: int) -> None:
        self._looked += looked
        self._progress(self._looked, max(self._of, self._looked))

    def _facts(self, found: Found) -> dict[str, Any]:
        return {'task': self._id, 'tenant': key_of(to_text(found.fields.get(b'tenant', b'')))}

    def _name(self, found: Found) -> str:
        return f'task {self._id} of tenant {_named(to_text(found.fields.get(b"tenant", b"")))}'


def _holds_back(store: Store, look: Look, queue: str, tenant_id: str) -> tuple[str, str, dict[str, Any]]:
    """State, why, and the facts of it, for the first task of a tenant that has some waiting."""
    for node, of, name in _above(tenant_id):
        options = store.settings(queue, of)
        if options.get('paused'):
            return 'paused', f'{name} is paused', {'paused': name}
        until = look.parked_until(queue, node)
        if until is None:
            continue
        if until == inf:
            cap = options.get('max_in_flight')
            in_flight = look.tracked_of(queue, [of])[0] or 0
            return 'capped', f'{name} is at its cap, {in_flight} of {cap} in flight', {
                'capped': name, 'in_flight': in_flight, 'max_in_flight': cap}
        seconds = max(0.0, (until - look.glance(queue).now_ms) / 1000)
        rate = options.get('rate') or 0.0
        used_up = f'{name} has used up its rate of {_rate(rate)}'
        return 'throttled', f'{used_up}: the next may start in {_duration(seconds)}', {
            'throttled': name, 'rate': rate, 'seconds': seconds}
    now = look.glance(queue)
    if not now.slots:
        return 'waiting', 'no worker has a lease on this queue', {'slots': 0}
    turns = sum(look.before(queue, node, child) or 0 for node, child in _contests(store, queue, tenant_id))
    full = f'all {_count(now.slots, "slot")} are taken' if now.slots > 1 else 'the only slot is taken'
    if turns:
        return 'waiting', f'{full}, and its turn comes after {_count(turns, "other")}', {
            'turns': turns, 'slots': now.slots}
    return 'waiting', f'{full}, and its turn is next', {'turns': 0, 'slots': now.slots}


def _above(tenant_id: str) -> Iterator[tuple[str, str, str]]:
    """From the sub-queue down to the tenant: the node, what its settings are called, what people call it."""
    sub_queue, _, path = tenant_id.partition(':')
    if sub_queue:
        yield sub_queue, f'sub:{sub_queue}', f'sub-queue {sub_queue!r}'
    parts = path.split(keys.PART)
    for count in range(1, len(parts) + 1):
        each = keys.PART.join(parts[:count])
        yield f'{sub_queue}:{each}', f'tenant:{each}', f'tenant {_named(each)}'


def _contests(store: Store, queue: str, tenant_id: str) -> Iterator[tuple[str, str]]:
    """Node and child, from the top of the scheduling tree down to the tenant."""
    sub_queue, _, path = tenant_id.partition(':')
    node = ''
    if store.sub_queues(queue):
        yield keys.ROOT, sub_queue
        node = sub_queue
    parts = path.split(keys.PART)
    for count in range(1, len(parts) + 1):
        child = f'{sub_queue}:{keys.PART.join(parts[:count])}'
        yield node, child
        node = child


def _named(path: str) -> str:
    try:
        return repr(key_of(path))
    except TenantKeyError:
        return repr(path)


def _count(number: int, what: str) -> str:
    return f'{number:,} {what}' + ('' if number == 1 else 's')


def _rate(a_second: float) -> str:
    """As options have it, such as ``5/m``."""
    for unit, seconds in ('s', 1), ('m', 60), ('h', 3600):
        if a_second * seconds >= 1:
            return f'{a_second * seconds:g}/{unit}'
    return f'{a_second * 86400:g}/d'


def _duration(seconds: float) -> str:
    """Two units at most, such as ``2 h 5 min``."""
    whole = int(seconds)
    for name, size, below, size_below in (('d', 86400, 'h', 3600), ('h', 3600, 'min', 60), ('min', 60, 's', 1)):
        if whole >= size:
            rest = whole % size // size_below
            return f'{whole // size} {name}' + (f' {rest} {below}' if rest else '')
    return f'{seconds:.1f} s' if seconds < 10 else f'{whole} s'
