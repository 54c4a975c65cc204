"""A queue at a glance."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from ..look import Look
from ..store import Store
from .counts import counts_of
from .waits import Waits, queue_waits

__all__ = ('QueueStatus', 'SubQueueStatus', 'WorkerStatus', 'status_of')


@dataclass(frozen=True)
class WorkerStatus:
    """A consumer with a lease."""

    name: str
    slots: int
    #: Tasks in egress that it was delivered and has not settled.
    delivered: int
    #: Seconds until its lease ends, unless it is renewed; negative where it has ended and nobody has swept yet.
    lease: float


@dataclass(frozen=True)
class SubQueueStatus:
    name: str
    waiting: int
    #: Tasks delivered or running, where these are counted; else None.
    in_flight: Optional[int]
    capacity: Optional[int]
    weight: float
    paused: bool
    algorithm: str


@dataclass(frozen=True)
class QueueStatus:
    queue: str
    algorithm: str
    #: Places in egress that the workers bring.
    slots: int
    #: Tasks in egress: delivered or about to be.
    egress: int
    #: Slots that are free although a task waits that may be served: must be 0, or is about to be.
    idle_slots: int
    #: Tasks in tenants' streams.
    waiting: int
    delayed: int
    dead: int
    #: Tenants with waiting tasks; of tuple keys, what is before the last counts too.
    tenants: int
    #: Of these, sub-queues included, the ones that a pause, a cap or a rate holds back.
    parked: int
    workers: tuple[WorkerStatus, ...] = ()
    sub_queues: tuple[SubQueueStatus, ...] = ()
    #: Since the queue exists: `redelivered` (again, as a worker died, stopped or lost its connection, or a task was
    #: requeued), `recovered` (leases that ended), `dead` (dead letters), `throttled` (times that a limit or a pause
    #: held somebody back), `expired`, `revoked` (delayed tasks), and what became of tasks that found no room:
    #: `reject`, `dead-letter`, `drop-oldest`.
    counts: dict[str, int] = field(default_factory=dict)
    #: Of the last minutes.
    waits: Waits = Waits()


def status_of(store: Store, queue: str) -> QueueStatus:
    look = Look(store)
    now = look.glance(queue)
    sub_queues = _sub_queues(store, look, queue)
    # The accounts that are none of a tenant, of those that are declared no longer too.
    above = sum(1 for count in look.waiting_of(queue, store.every_sub_queue(queue)) if count)
    return QueueStatus(
        queue, now.algorithm, now.slots, now.egress, now.idle_slots, now.waiting, now.delayed, now.dead,
        max(0, now.accounts - above), now.parked,
        tuple(WorkerStatus(name, slots, delivered, (lease_end - now.now_ms) / 1000)
              for name, (slots, delivered, lease_end) in now.consumers.items()),
        sub_queues, counts_of(look, queue, [each.name for each in sub_queues]),
        queue_waits(store.client, store.namespace(queue)).get('', Waits()))


def _sub_queues(store: Store, look: Look, queue: str) -> tuple[SubQueueStatus, ...]:
    names = store.sub_queues(queue)
    waiting = look.waiting_of(queue, names)
    in_flight = look.tracked_of(queue, [f'sub:{name}' for name in names])
    found = []
    for name, waits, flies in zip(names, waiting, in_flight):
        options = store.settings(queue, f'sub:{name}')
        found.append(SubQueueStatus(name, waits, flies, options.get('capacity'), options.get('egress') or 1,
                                    bool(options.get('paused')), options.get('algorithm') or 'wrr'))
    return tuple(found)
