"""Random traces through the scripts and the model: after each step both hold the same, and the invariants hold."""
from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celery_qos import keys
from tests.lua.hand import Hand, number_of
from tests.model import Model, Task

TENANTS = ['a', 'b', 'c', 'd', 'e', '']
CONSUMERS = ['v', 'w', 'x']
PRIORITIES = [0, 3, 9]
WEIGHTS = st.sampled_from([0.01, 1 / 3, 1.0, 2.0, 3.0, 7.5, 200.0])

tenants, consumers = st.sampled_from(TENANTS), st.sampled_from(CONSUMERS)


class Snapshot:
    """Everything that the queue's keys hold."""

    def __init__(self, hand: Hand) -> None:
        ns, places = hand.ns, [(tenant, priority) for tenant in TENANTS for priority in PRIORITIES]
        with hand.redis.pipeline() as pipe:
            for place in places:
                pipe.xrange(keys.tenant_stream(ns, *place))
            for name in 'ready', 'finish', 'leases':
                pipe.zrange(getattr(keys, name)(ns), 0, -1, withscores=True)
            for name in 'slots', 'waiting', 'state':
                pipe.hgetall(getattr(keys, name)(ns))
            *streams, ready, finish, leases, slots, waiting, state = pipe.execute()
        #: Tenant and priority to numbers; empty streams are left out.
        self.streams = {place: [number_of(fields) for _, fields in stream]
                        for place, stream in zip(places, streams) if stream}
        self.ready, self.finish, self.leases = (
            {member.decode(): score for member, score in tags} for tags in (ready, finish, leases))
        self.slots, self.waiting, self.state = (
            {name.decode(): float(value) for name, value in fields.items()} for fields in (slots, waiting, state))
        self.egress = hand.egress()


class Trace(RuleBasedStateMachine):
    """One queue, worked by up to three consumers."""

    def __init__(self, store) -> None:
        super().__init__()
        store.client.flushall()
        self.store, self.redis, self.model = store, store.client, Model()
        self.hand = Hand(store)
        self.queue, self.ns = self.hand.queue, self.hand.ns
        store.declare(self.queue)
        self.published = 0
        self.finished = 0
        #: Entry id to the model's task, for every entry there ever was.
        self.tasks: dict[str, Task] = {}
        #: How many in egress are there for the first time.
        self.dispatched = 0
        self.seen: set[int] = set()
        #: Tenant and priority of each task, and the last task that was dispatched of each such pair.
        self.origin: dict[int, tuple[str, int]] = {}
        self.last: dict[tuple[str, int], int] = {}

    # -- what happens to a queue

    @initialize(slots=st.integers(0, 5), publications=st.lists(tenants, max_size=9))
    def begin(self, slots, publications):
        self.lease('w', slots)
        for tenant in publications:
            self.publish(tenant, PRIORITIES[1], 1)

    @rule(tenant=tenants, priority=st.sampled_from(PRIORITIES), times=st.integers(1, 4))
    def publish(self, tenant, priority, times):
        for _ in range(times):
            number = self.hand.put(tenant, priority=priority)
            self.origin[number] = tenant, priority
            self.model.enqueue(number, tenant, priority)
            self.published += 1

    @rule(consumer=consumers, slots=st.integers(0, 5))
    def lease(self, consumer, slots):
        assert self.hand.hire(consumer, slots) == self.model.lease(consumer, slots)

    @precondition(lambda self: self.model.egress)
    @rule(consumer=consumers, at_most=st.integers(1, 3), blocking=st.booleans())
    def read(self, consumer, at_most, blocking):
        expected = self.model.read(consumer, at_most)
        if blocking:
            read = self.hand.read(consumer, at_most)
        else:
            read = self.store.take([self.queue], consumer, at_most)
        assert [int(delivery.fields[b'number']) for delivery in read] == [task.number for task in expected]

    @rule(consumer=consumers)
    def get(self, consumer):
        expected = self.model.get(consumer)
        slots = self.model.slots.get(consumer, 0) + (expected is None)
        delivery = self.store.get(self.queue, consumer, slots, 600)
        assert (delivery and int(delivery.fields[b'number'])) == (expected and expected.number)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def settle(self, data):
        ids = self.pick(data)
        settled = self.store.settle(self.queue, ids)
        self.finished += settled
        assert settled == self.model.settle([self.tasks[each] for each in ids])

    @precondition(lambda self: self.given)
    @rule(data=st.data(), counted=st.booleans())
    def requeue(self, data, counted):
        ids = self.pick(data)
        assert self.store.requeue(self.queue, ids, counted) == self.model.requeue([self.tasks[i] for i in ids], counted)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), consumer=consumers)
    def reclaim(self, data, consumer):
        ids = self.pick(data)
        expected = self.model.reclaim(consumer, [self.tasks[each] for each in ids])
        assert self.store.reclaim(self.queue, consumer, ids) == expected

    @rule(consumer=consumers)
    def release(self, consumer):
        assert self.store.release(self.queue, consumer) == self.model.release(consumer)

    @rule(consumer=consumers)
    def end_lease(self, consumer):
        self.hand.end_lease(consumer)
        self.model.end_lease(consumer)

    @rule()
    def sweep(self):
        recovered = {recovery.consumer: recovery.tasks for recovery in self.store.sweep(self.queue, 600)}
        assert recovered == self.model.sweep()

    @rule(tenant=tenants, weight=st.none() | WEIGHTS)
    def set_weight(self, tenant, weight):
        self.store.set_weight(self.queue, tenant, weight)
        self.model.set_weight(tenant, weight)
        assert self.store.weight(self.queue, tenant) == self.model.weight(tenant)

    @rule(weights=st.dictionaries(tenants, WEIGHTS, max_size=3), default=WEIGHTS)
    def configure(self, weights, default):
        pairs = {'default:weight': default, **{f'weight:{tenant}': weight for tenant, weight in weights.items()}}
        self.store.declare(self.queue, repr(sorted(pairs.items())), pairs)
        self.model.configure(weights, default)

    @precondition(lambda self: self.model.backlog > 8)
    @rule()
    def purge(self):
        purged = self.store.purge(self.queue)
        self.finished += purged
        assert purged == self.model.purge()

    @property
    def given(self) -> list[str]:
        """Ids of the last entries that workers were given; some are settled or went to others since."""
        return [entry_id for entry_id, task in self.tasks.items() if task.owner][-12:]

    def pick(self, data) -> list[str]:
        return data.draw(st.lists(st.sampled_from(self.given), min_size=1, max_size=4, unique=True))

    # -- what always holds

    @invariant()
    def holds(self):
        there = Snapshot(self.hand)
        self.same_as_the_model(there)
        self.accounts_agree(there)
        self.slots_are_kept_and_used(there)
        self.first_in_first_out(there)
        for entry, task in zip(there.egress, self.model.egress):
            self.tasks[entry.entry_id] = task

    def same_as_the_model(self, there: Snapshot):
        model = self.model
        assert [entry[1:] for entry in there.egress] == [task.shape for task in model.egress]
        for tenant in TENANTS:
            for priority in PRIORITIES:
                expected = list(model.waiting.get(tenant, {}).get(priority, ()))
                assert there.streams.get((tenant, priority), []) == expected
        assert there.ready == model.ready
        assert there.finish == model.finish
        assert there.state.get('vtime', 0.0) == model.virtual_time
        assert set(there.leases) == set(model.leases)
        assert self.store.size(self.queue) == model.size

    def accounts_agree(self, there: Snapshot):
        waiting = {}
        for (tenant, _), numbers in there.streams.items():
            waiting[tenant] = waiting.get(tenant, 0) + len(numbers)
        assert there.slots == self.model.slots
        assert there.state.get('slots', 0) == sum(there.slots.values())
        assert there.waiting == waiting
        assert there.state.get('waiting', 0) == sum(waiting.values())
        # Each task is in one place.
        numbers = [entry.number for entry in there.egress] + [n for stream in there.streams.values() for n in stream]
        assert len(numbers) == len(set(numbers)) == self.published - self.finished

    def slots_are_kept_and_used(self, there: Snapshot):
        dispatched, slots = sum(not entry.redelivered for entry in there.egress), sum(there.slots.values())
        assert dispatched <= max(slots, self.dispatched), 'more was dispatched than there are slots'
        self.dispatched = dispatched
        assert len(there.egress) >= slots or not there.waiting, 'a slot is free while a task waits'

    def first_in_first_out(self, there: Snapshot):
        for entry in there.egress:
            if entry.number not in self.seen:
                origin = self.origin[entry.number]
                assert entry.number > self.last.get(origin, 0), 'a task was overtaken by a later one of its tenant'
                self.last[origin] = entry.number
                self.seen.add(entry.number)

    # -- the end

    def teardown(self):
        for consumer in CONSUMERS:
            self.store.release(self.queue, consumer)
        self.hand.hire('last', 100)
        while deliveries := self.hand.read('last'):
            self.finished += self.hand.settle(*deliveries)
        self.store.release(self.queue, 'last')
        assert self.finished == self.published
        assert self.hand.all_keys() == {'settings'}
        self.store.delete(self.queue)
        assert not self.redis.keys()


@pytest.mark.parametrize('steps, examples', [(20, 120), (100, 30)], ids=['short', 'long'])
def test_scripts_do_what_the_model_does(store, steps: int, examples: int):
    run_state_machine_as_test(lambda: Trace(store), settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True, database=None,
        suppress_health_check=list(HealthCheck)))
