"""The oracle: what a queue does, in plain Python, one method per script. Tasks are numbers, nothing is stored.

Weighted round-robin by start-time fair queueing: a tenant that becomes backlogged starts at max(virtual time, its
finish tag); a dispatch sets virtual time to the start tag and the tenant's next start to start + 1 / weight. Newcomers
that would start at the same tag are set `TIE` apart, or as far as rounding needs, so that they go in the order of
arrival. Once nobody waits all tags are forgotten.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Optional

__all__ = ('Model', 'Task', 'TIE')

TIE = 2.0 ** -30


@dataclass(eq=False)
class Task:
    """A task in egress; a redelivery is another one with the same number."""

    number: int
    tenant: str
    owner: Optional[str] = None
    redelivered: bool = False
    failures: int = 0

    @property
    def shape(self) -> tuple[int, Optional[str], bool, int]:
        return self.number, self.owner, self.redelivered, self.failures


@dataclass
class Model:
    """One queue."""

    #: Tenant, then priority, to the numbers of the waiting tasks.
    waiting: dict[str, dict[int, deque[int]]] = field(default_factory=dict)
    egress: list[Task] = field(default_factory=list)
    slots: dict[str, int] = field(default_factory=dict)
    #: Consumer to whether its lease has ended.
    leases: dict[str, bool] = field(default_factory=dict)
    #: Start tag of each backlogged tenant.
    ready: dict[str, float] = field(default_factory=dict)
    #: Finish tag of each drained tenant that virtual time may not have passed.
    finish: dict[str, float] = field(default_factory=dict)
    virtual_time: float = 0.0
    #: Start tag of the last newcomer.
    newest: float = -1.0
    configured: dict[str, float] = field(default_factory=dict)
    default_weight: float = 1.0
    set_weights: dict[str, float] = field(default_factory=dict)

    # -- what can be asked

    def weight(self, tenant: str) -> float:
        return self.set_weights.get(tenant, self.configured.get(tenant, self.default_weight))

    @property
    def free(self) -> int:
        return sum(self.slots.values()) - len(self.egress)

    @property
    def backlog(self) -> int:
        return sum(len(tasks) for streams in self.waiting.values() for tasks in streams.values())

    @property
    def size(self) -> int:
        return self.backlog + sum(task.owner is None for task in self.egress)

    def held_by(self, consumer: str) -> list[Task]:
        return [task for task in self.egress if task.owner == consumer]

    # -- tasks

    def enqueue(self, number: int, tenant: str, priority: int) -> None:
        if self.free > 0 and not self.waiting:
            self.egress.append(Task(number, tenant))
            return
        if tenant not in self.waiting:
            self._activate(tenant)
        self.waiting.setdefault(tenant, {}).setdefault(priority, deque()).append(number)
        self.dispatch()

    def settle(self, tasks: list[Task]) -> int:
        there = [task for task in tasks if task in self.egress]
        for task in there:
            self.egress.remove(task)
        self.dispatch()
        return len(there)

    def requeue(self, tasks: list[Task], counted: bool) -> int:
        held = [task for task in tasks if task in self.egress and task.owner]
        for task in held:
            self.egress.remove(task)
            self.egress.append(Task(task.number, task.tenant, None, True, task.failures + counted))
        return len(held)

    def read(self, consumer: str, count: int) -> list[Task]:
        read = [task for task in self.egress if task.owner is None][:count]
        for task in read:
            task.owner = consumer
        return read

    def get(self, consumer: str) -> Optional[Task]:
        slots = self.slots.get(consumer, 0)
        self._set_slots(consumer, slots + 1)
        self.dispatch()
        read = self.read(consumer, 1)
        if read:
            self.leases[consumer] = False
            return read[0]
        self._set_slots(consumer, slots)
        if not slots and not self.held_by(consumer):
            self._forget(consumer)
        return None

    def purge(self) -> int:
        purged = self.size
        self.egress = [task for task in self.egress if task.owner]
        self.waiting.clear()
        self.ready.clear()
        self._reset()
        return purged

    # -- workers

    def lease(self, consumer: str, slots: int) -> tuple[bool, int]:
        unsettled = 0 if slots else len(self.held_by(consumer))
        if not slots and not unsettled:
            self._forget(consumer)
            return False, 0
        new = consumer not in self.leases
        self.leases[consumer] = False
        self._set_slots(consumer, slots)
        self.dispatch()
        return new, unsettled

    def release(self, consumer: str) -> int:
        moved = self.requeue(self.held_by(consumer), False)
        self._forget(consumer)
        return moved

    def reclaim(self, consumer: str, held: list[Task]) -> int:
        return self.requeue([task for task in self.held_by(consumer) if task not in held], False)

    def end_lease(self, consumer: str) -> None:
        if consumer in self.leases:
            self.leases[consumer] = True

    def sweep(self) -> dict[str, int]:
        """Consumer to the tasks that are delivered again."""
        recovered = {}
        for consumer in sorted(consumer for consumer, ended in self.leases.items() if ended):
            recovered[consumer] = self.requeue(self.held_by(consumer), True)
            self._forget(consumer)
        for task in self.egress:
            if task.owner:
                self.leases.setdefault(task.owner, False)
        self.finish = {tenant: tag for tenant, tag in self.finish.items() if tag > self.virtual_time}
        self.dispatch()
        return recovered

    def _set_slots(self, consumer: str, slots: int) -> None:
        if slots:
            self.slots[consumer] = slots
        else:
            self.slots.pop(consumer, None)

    def _forget(self, consumer: str) -> None:
        self.slots.pop(consumer, None)
        self.leases.pop(consumer, None)

    # -- scheduling

    def set_weight(self, tenant: str, weight: Optional[float]) -> None:
        before = self._weights()
        if weight is None:
            self.set_weights.pop(tenant, None)
        else:
            self.set_weights[tenant] = weight
        self._reweigh(before)

    def configure(self, weights: dict[str, float], default: float) -> None:
        before = self._weights()
        self.configured, self.default_weight = weights, default
        self._reweigh(before)

    def _weights(self) -> dict[str, float]:
        return {tenant: self.weight(tenant) for tenant in [*self.ready, *self.finish]}

    def _reweigh(self, before: dict[str, float]) -> None:
        """By how much a tag is ahead of virtual time is work, which another weight makes up for sooner or later."""
        for tags in self.ready, self.finish:
            for tenant, tag in tags.items():
                ratio = before[tenant] / self.weight(tenant)
                if ratio != 1 and tag > self.virtual_time:
                    tags[tenant] = self.virtual_time + (tag - self.virtual_time) * ratio

    def dispatch(self) -> None:
        while self.free > 0 and self.ready:
            tenant = min(self.ready, key=lambda each: (self.ready[each], each.encode()))
            streams = self.waiting[tenant]
            priority = min(streams)
            self.egress.append(Task(streams[priority].popleft(), tenant))
            if not streams[priority]:
                del streams[priority]
            self._charge(tenant)

    def _activate(self, tenant: str) -> None:
        start = self.virtual_time
        if self.newest >= start:
            start = self.newest + TIE * max(1.0, self.newest * 2.0 ** -20)
        finish = self.finish.pop(tenant, 0.0)
        if finish > start:
            start = finish
        else:
            self.newest = start
        self.ready[tenant] = start

    def _charge(self, tenant: str) -> None:
        self.virtual_time = self.ready.pop(tenant)
        finish = self.virtual_time + 1 / self.weight(tenant)
        if self.waiting[tenant]:
            self.ready[tenant] = finish
            return
        del self.waiting[tenant]
        if self.ready:
            self.finish[tenant] = finish
        else:
            self._reset()

    def _reset(self) -> None:
        self.finish.clear()
        self.virtual_time, self.newest = 0.0, -1.0
