"""Why a task, or a tenant, waits: in one sentence."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from ..codec import time_of
from ..look import Found, Look
from ..path import key_of, parse_path
from ..store import Store, to_text
from .held_back import NO_WORKER, what_holds_back
from .in_flight import in_flight_of
from .waits import tenant_waits
from .words import counted, duration, named

__all__ = ('Why', 'STATES', 'why_task', 'why_tenant', 'why_not_here')

#: What there is to find out about a task or a tenant.
STATES = ('paused', 'capped', 'throttled', 'waiting', 'delayed', 'running', 'dead', 'idle', 'gone', 'unknown')


@dataclass(frozen=True)
class Why:
    """One answer.

    Arguments:
        state: one of `STATES`.
        sentence: the same for people.
        facts: what the sentence says, for programs: `tenant`, `behind`, `due`, `worker`, `reason`... `before`: at least
            so many others have a turn before, at each level of the scheduling tree. `sub_queues`: the facts of each
            where some wait in several.
    """

    state: str
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


def why_tenant(store: Store, queue: str, tenant: Any) -> Why:
    """Why the tenant's tasks wait; `unknown` where it has none, had none lately and has no settings of its own."""
    path = parse_path(tenant)
    look = Look(store)
    names = store.every_sub_queue(queue)
    waiting = {name: count for name, count in zip(names, look.waiting_of(queue, [f'{name}:{path}' for name in names]))
               if count}
    facts: dict[str, Any] = {'tenant': key_of(path), 'waiting': sum(waiting.values())}
    if waiting:
        return _why_it_waits(store, look, queue, path, waiting, facts)
    found = in_flight_of(look, queue)
    tracked = look.tracked_of(queue, [f'tenant:{path}'])[0] or 0
    facts['in_flight'] = max(tracked, sum(found[f'{name}:{path}'] for name in names))
    if facts['in_flight']:
        return Why('running', f'tenant {named(path)}: nothing waits; {counted(facts["in_flight"], "task")} in flight',
                   facts)
    delivered = tenant_waits(store.client, store.namespace(queue), [f'{name}:{path}' for name in names])
    facts['delivered'] = sum(waits.count for waits in delivered.values())
    if store.settings(queue, f'tenant:{path}').get('paused'):
        return Why('paused', f'tenant {named(path)} is paused: nothing waits and nothing is in flight', facts)
    if facts['delivered']:
        return Why('idle', f'tenant {named(path)}: nothing waits and nothing is in flight; '
                   f'{counted(facts["delivered"], "task")} delivered in the last minutes', facts)
    if look.is_set(queue, f'tenant:{path}'):
        return Why('idle', f'tenant {named(path)}: nothing waits and nothing is in flight', facts)
    return Why('unknown', f'tenant {named(path)}: nothing waits, nothing is in flight, and nothing is set of it',
               facts)


def _why_it_waits(store: Store, look: Look, queue: str, path: str, waiting: dict[str, int],
                  facts: dict[str, Any]) -> Why:
    """The reasons of each sub-queue that has some; `waiting`: how many."""
    reasons = {name: what_holds_back(store, look, queue, f'{name}:{path}') for name in waiting}
    count = f'{counted(facts["waiting"], "task")} {"waits" if facts["waiting"] == 1 else "wait"}'
    first = next(iter(reasons.values()))
    if len(reasons) == 1:
        return Why(first.state, f'tenant {named(path)}: {count}: {first.sentence}', {**facts, **first.facts})
    # Some may be served, whatever keeps the rest.
    state = 'waiting' if any(each.state == 'waiting' for each in reasons.values()) else first.state
    sentence = '; '.join(f'{waiting[name]:,} in {f"sub-queue {name!r}" if name else "no sub-queue"}: {each.sentence}'
                         for name, each in reasons.items())
    return Why(state, f'tenant {named(path)}: {count}: {sentence}', {**facts, 'sub_queues': {
        name: {'state': each.state, 'waiting': waiting[name], **each.facts} for name, each in reasons.items()}})


def why_task(store: Store, queue: str, task_id: str, progress: Callable[[int, int], None]) -> Why:
    """Where the task of this id is; `unknown` where this queue does not have it."""
    return _Search(store, queue, task_id, progress).answer()


def why_not_here(app: Any, task_id: str, timeout: float) -> Optional[Why]:
    """What the workers, or else the result backend, know of a task that is in no queue; None for nothing.

    Arguments:
        timeout: seconds in which workers may answer.
    """
    for worker, tasks in (app.control.inspect(timeout=timeout).query_task([task_id]) or {}).items():
        for state, _ in tasks.values():
            return Why('running', f'task {task_id} is {state} in worker {worker}',
                       {'task': task_id, 'worker': worker, 'celery_state': state})
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
        when = f'in {duration(seconds)}' if seconds > 0 else f'overdue for {duration(-seconds)}'
        return Why('delayed', f'task {self._id} of tenant {named(first.tenant)} is delayed until '
                   f'{due.isoformat(timespec="seconds")}, {when}',
                   {'task': self._id, 'tenant': key_of(first.tenant), 'due': due.isoformat()})

    def _in_egress(self) -> Optional[Why]:
        for stream in self._look.egress_streams(self._queue):
            if found := self._find(stream):
                return self._why_in_egress(found, self._look.consumer_of(stream, found.entry_id))
        return None

    def _why_in_egress(self, found: Found, consumer: Optional[str]) -> Why:
        now = self._look.glance(self._queue)
        name, facts = self._name(found), {**self._facts(found), 'worker': consumer}
        if consumer is None and now.is_served:
            return Why('running', f'{name} has its slot: a worker takes it next', facts)
        if consumer is None:
            return Why('waiting', f'{name} has its slot, but {NO_WORKER}', facts)
        if not now.has_lease(consumer):
            return Why('waiting', f'{name} was delivered to {consumer}, whose lease has ended: it is delivered again'
                       + ('' if now.is_served else ' when a worker is there'), facts)
        return Why('running', f'{name} was delivered to {consumer}, which runs it or has it next', facts)

    def _waiting(self) -> Optional[Why]:
        self._of = self._look.glance(self._queue).waiting
        ids = (each for each, _ in self._look.waiting_ids(self._queue) if ':' in each)
        place = self._look.find_waiting(self._queue, self._id, ids, self._count)
        if not place:
            return None
        tenant_id, found = place
        reason = what_holds_back(self._store, self._look, self._queue, tenant_id)
        own = f'behind {counted(found.before, "task")} of its own tenant; ' if found.before else ''
        return Why(reason.state, f'{self._name(found)} waits: {own}{reason.sentence}',
                   {**self._facts(found), **reason.facts, 'behind': found.before})

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
        return f'task {self._id} of tenant {named(to_text(found.fields.get(b"tenant", b"")))}'
