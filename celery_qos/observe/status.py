"""A queue at a glance."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from .waits import Waits

__all__ = ('QueueStatus', 'SubQueueStatus', 'WorkerStatus')


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
    #: Tenants with waiting tasks.
    tenants: int
    #: Of these, sub-queues included, the ones that a pause, a cap or a rate holds back.
    parked: int
    workers: tuple[WorkerStatus, ...] = ()
    sub_queues: tuple[SubQueueStatus, ...] = ()
    #: Since the queue exists: `delivered`; `redelivered` (again, as a worker died, stopped or lost its connection, or a
    #: task was requeued); `recovered` (leases that ended); `dead` (dead letters); `throttled` (times that a limit or a
    #: pause held somebody back); `expired`; `revoked` (delayed tasks); and what became of tasks that found no room:
    #: `reject`, `dead-letter`, `drop-oldest`. All but the first come from `counts.counts`.
    counts: dict[str, int] = field(default_factory=dict)
    #: Of the last minutes.
    waits: Waits = Waits()
