"""Whatever limits come and go: none is exceeded, no slot is idle while a task may run, and no task is lost.

Says what must hold and not how; the model in ``test_trace`` says that.
"""
from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from celery_qos.config import ALGORITHMS, QoS, SubQueue, Tenant
from celery_qos.keys import PART
from celery_qos.store import Delivery
from tests.lua.hand import Hand, number_of

pytestmark = pytest.mark.once

TENANTS = ['a', 'b', 'a\x1f1', 'a\x1f2', 'c', 'c\x1f1', 'c\x1f1\x1fx']
LIMITED = ['tenant:a', 'tenant:b', 'tenant:c', 'tenant:a\x1f1', 'tenant:c\x1f1']


class Life:
    """A queue on which anything happens, and what must be true of it.

    Arguments:
        random: says what happens.
    """

    def __init__(self, hand: Hand, random: Random) -> None:
        self.hand, self.random = hand, random
        self.sub_queues = random.choice(['', 'xy'])
        hand.configure(QoS(random.choice(ALGORITHMS), [
            SubQueue(name, 1000, random.choice([1, 2, 5]), algorithm=random.choice(ALGORITHMS))
            for name in self.sub_queues], tenants={'b': Tenant(3)}))
        self.limits: dict[str, dict[str, Any]] = {}
        #: Sub-queue and tenant to the number of tasks that are not delivered.
        self.waiting: Counter[tuple[str, str]] = Counter()
        self.held: list[Delivery] = []
        self.running: list[Delivery] = []
        self.published = 0
        self.delivered: set[int] = set()
        self.before: Counter[str] = Counter()
        self.slots = 0
        self.hire()

    def goes_by(self) -> None:
        """All of it: at any moment what must be true is, and nothing is left at the end."""
        for _ in range(120):
            self.happens()
            self.check()
        for subject in self.limits:
            self.set(subject, paused=False, max_in_flight=None)
        self.check()
        while self.held or self.running:
            self.end()
            self.check()
        assert len(self.delivered) == self.published
        self.hand.store.release(self.hand.queue, 'w')
        assert self.hand.all_keys() == {'settings'}

    # -- what happens

    def hire(self) -> None:
        self.slots = self.random.randint(1, 8)
        self.hand.hire(slots=self.slots)

    def publish(self) -> None:
        tenant, sub_queue = self.random.choice(TENANTS), self.random.choice(self.sub_queues or [''])
        times = self.random.randint(1, 3)
        self.published = self.hand.put(tenant, times, sub_queue=sub_queue)
        self.waiting[sub_queue, tenant] += times

    def end(self) -> None:
        for tasks in self.held, self.running:
            if tasks:
                task = tasks.pop(self.random.randrange(len(tasks)))
                self.hand.finish(task, seconds=self.random.choice([None, self.random.random()]))

    def start(self) -> None:
        tracked = [task for task in self.held if b'tracked' in task.fields]
        if tracked:
            self.held.remove(tracked[0])
            self.running.append(tracked[0])
            self.hand.start(tracked[0])

    def give_back(self) -> None:
        if self.held:
            self.hand.requeue(self.held.pop())

    def limit(self) -> None:
        subject = self.random.choice(LIMITED + [f'sub:{name}' for name in self.sub_queues])
        self.set(subject, **self.random.choice([
            {'paused': True}, {'paused': False}, {'paused': False, 'max_in_flight': None, 'burst': 0},
            {'max_in_flight': self.random.randint(1, 3), 'burst': self.random.choice([0, 0, 2])}]))

    def set(self, subject: str, **options: Any) -> None:
        self.limits.setdefault(subject, {}).update(options)
        self.hand.store.set(self.hand.queue, subject, options)

    def change_algorithm(self) -> None:
        self.hand.store.set(self.hand.queue, 'queue', {'algorithm': self.random.choice(ALGORITHMS)})

    def happens(self) -> None:
        acts = {self.publish: 35, self.end: 25, self.start: 8, self.give_back: 4, self.limit: 12,
                self.change_algorithm: 2, self.hire: 2, self.hand.sweep: 2}
        self.random.choices(list(acts), list(acts.values()))[0]()

    # -- what must be true

    def check(self) -> None:
        for task in self.hand.read():
            self.held.append(task)
            if b'redelivered' not in task.fields:
                assert number_of(task.fields) not in self.delivered
                self.delivered.add(number_of(task.fields))
                self.waiting[place_of(task)] -= 1
        in_flight = Counter(subject for task in self.held + self.running if b'tracked' in task.fields
                            for subject in self.subjects(*place_of(task)))
        for subject, limits in self.limits.items():
            if limits.get('max_in_flight'):
                # More where it was lowered.
                most = limits['max_in_flight'] + limits['burst']
                assert in_flight[subject] <= max(most, self.before[subject]), (subject, limits)
        self.before = in_flight
        if len(self.held) < self.slots:
            for place in +self.waiting:
                assert any(self.is_held_back(subject, in_flight) for subject in self.subjects(*place)) \
                    or self.borrows_twice(place, in_flight), (place, self.limits, in_flight)

    def subjects(self, sub_queue: str, tenant: str) -> list[str]:
        parts = tenant.split(PART)
        paths = [f'tenant:{PART.join(parts[:upto])}' for upto in range(1, len(parts) + 1)]
        return [f'sub:{sub_queue}', *paths] if sub_queue else paths

    def is_held_back(self, subject: str, in_flight: Counter[str]) -> bool:
        limits = self.limits.get(subject, {})
        cap = limits.get('max_in_flight')
        return bool(limits.get('paused') or cap and in_flight[subject] >= cap + limits['burst'])

    def borrows_twice(self, place: tuple[str, str], in_flight: Counter[str]) -> bool:
        """Slots are lent to one that is at its cap, and not through another that is at its own."""
        caps = {subject: self.limits.get(subject, {}).get('max_in_flight') for subject in self.subjects(*place)}
        return sum(in_flight[subject] >= cap for subject, cap in caps.items() if cap) > 1


def place_of(task: Delivery) -> tuple[str, str]:
    return task.fields.get(b'sub', b'').decode(), task.fields[b'tenant'].decode()


#: Those past the first ones found something once.
SEEDS = [*range(20), 150, 210, 223, 225, 226, 244, 289, 321, 378, 395, 424, 447, 467, 504, 510, 537, 555, 567]


@pytest.mark.parametrize('seed', SEEDS)
def test_no_limit_is_exceeded_no_slot_is_idle_and_no_task_is_lost(hand, seed):
    Life(hand, Random(seed)).goes_by()
