"""Random traces through the scripts and the model: after each step both hold the same, and the invariants hold."""
from __future__ import annotations

import logging
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
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
from celery_qos.config import ALGORITHMS, ON_FULL, Egress, QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError, QueueFull
from celery_qos.store import FORGET, Tracked
from tests.lua.hand import Hand, number_of
from tests.model import LIFTED, PART, ROOT, Model, Task, chain_of, subject_of

#: Some are inside others, which have tasks of their own too.
TENANTS = ['a', 'a\x1fx', 'a\x1fy', 'b', 'b\x1fx', 'b\x1fx\x1fp', 'c', '']
SUB_QUEUES = ['high', 'mid', 'low']
CONSUMERS = ['v', 'w', 'x']
PRIORITIES = [0, 5]

tenants, consumers = st.sampled_from(TENANTS), st.sampled_from(CONSUMERS)
weights = st.sampled_from([0.01, 0.3, 1.0, 2.0, 7.5, 200.0])
algorithms = st.sampled_from(ALGORITHMS)
seconds = st.sampled_from([None, 0.0, 0.01, 0.5, 1.0, 4.0])
#: A bucket for one token, which takes longer to fill again than a test runs.
ONCE = 1e-6

#: What may be set of a tenant or a sub-queue, and None for no limit.
LIMITS = {
    'capacity': st.sampled_from([2, 3, LIFTED]), 'on_full': st.sampled_from(ON_FULL),
    'max_in_flight': st.sampled_from([1, 2, LIFTED]), 'burst': st.integers(0, 1),
    'rate': st.sampled_from([ONCE, LIFTED]), 'paused': st.booleans(),
}
of_tenant = {**LIMITS, 'weight': weights}
of_sub_queue = {**LIMITS, 'egress': weights, 'ingress': weights, 'algorithm': algorithms}
of_queue = {'algorithm': algorithms, 'capacity': st.sampled_from([1, 3, LIFTED]), 'streams': st.integers(1, 2)}


def some(options: dict, most: int = 3) -> st.SearchStrategy[dict]:
    return st.lists(st.sampled_from(sorted(options)), max_size=most, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: options[name] for name in names}))


#: What is drawn now and then, as chance would seldom bring it: all by worker-seconds, or slots that are borrowed.
BORROWS = {'max_in_flight': 1, 'burst': 1}


@st.composite
def configs(draw) -> QoS:
    theme = draw(st.sampled_from(['any', 'any', 'timed', 'borrowed']))
    names = draw(st.sampled_from([[], SUB_QUEUES[:2], SUB_QUEUES, SUB_QUEUES[::-1]]))
    tenant_options = {**of_tenant, 'sub_queue': st.sampled_from(names)} if names else of_tenant
    algorithm = st.just('dwrr') if theme == 'timed' else algorithms
    sub_options = {name: of_sub_queue[name] for name in LIMITS}

    def sub_queue(name: str) -> SubQueue:
        limits = draw(st.sampled_from([BORROWS, {}])) if theme == 'borrowed' else draw(some(sub_options))
        given = {option: value for option, value in limits.items() if value is not LIFTED}
        return SubQueue(name, **{'capacity': 1000, **given}, weight=draw(weights), algorithm=draw(algorithm))

    default = BORROWS if theme == 'borrowed' else draw(some(of_tenant, most=draw(st.sampled_from([0, 0, 2]))))
    return QoS(
        draw(algorithm),
        queues=[sub_queue(name) for name in names],
        egress=Egress(draw(st.sampled_from([None, None, 1, 3])), draw(st.integers(1, 2))),
        tenants={path: Tenant(**options) for path, options in draw(
            st.dictionaries(tenants, some(tenant_options), max_size=4 if theme == 'any' else 1)).items()},
        default_tenant=Tenant(**default))


class Snapshot:
    """Everything that the queue's keys hold."""

    def __init__(self, hand: Hand) -> None:
        names = sorted(hand.all_keys())
        with hand.redis.pipeline() as pipe:
            for name in names:
                kind, key = name.partition(':')[0], f'{hand.ns}:{name}'
                if kind in ('tenant', 'egress', 'dead'):
                    pipe.xrange(key)
                elif kind in ('ready', 'finish', 'parked', 'lendable', 'leases', 'sweepers'):
                    pipe.zrange(key, 0, -1, withscores=True)
                elif kind == 'bell':
                    pipe.llen(key)
                else:
                    pipe.hgetall(key)
            found = dict(zip(names, pipe.execute()))
        #: Tenant id and priority to numbers.
        self.streams: dict[tuple[str, int], list[int]] = {}
        #: Kind, then node, to child and tag.
        self.tags: dict[str, dict[str, dict[str, float]]] = {'ready': {}, 'finish': {}, 'owing': {}}
        #: Consumer to ids of the tasks that it acknowledged early.
        self.running: dict[str, list[str]] = {}
        for name, value in found.items():
            kind, colon, rest = name.partition(':')
            if kind == 'tenant':
                priority, _, child = rest.partition(':')
                self.streams[child, int(priority)] = [number_of(fields) for _, fields in value]
            elif kind in self.tags:
                pairs = value.items() if kind == 'owing' else value
                self.tags[kind][rest if colon else ROOT] = {child.decode(): float(tag) for child, tag in pairs}
            elif kind == 'running':
                self.running[rest] = [child.decode() for child in value.values()]
        self.parked, self.lendable, self.leases = (
            {member.decode(): score for member, score in found.get(name, ())}
            for name in ('parked', 'lendable', 'leases'))
        self.slots, self.waiting, self.state, self.in_flight, self.averages = (
            {name.decode(): float(value) for name, value in found.get(key, {}).items()}
            for key in ('slots', 'waiting', 'state', 'in_flight', 'averages'))
        self.spent = {subject.decode() for subject, bucket in found.get('tokens', {}).items()
                      if float(bucket.split()[0]) < 0.999}
        self.settings = found['settings']
        self.dead = [number_of(fields) for _, fields in found.get('dead', ())]
        self.rooted = self.settings[b'top'] != b'tenants'
        self.egress = hand.egress()
        #: In the order of `egress`.
        self.entries = [fields for name in names if name.partition(':')[0] == 'egress' for _, fields in found[name]]

    @property
    def tracked(self) -> list[str]:
        """Ids of the tasks in flight whose end has to be reported."""
        in_egress = [f"{fields.get(b'sub', b'').decode()}:{fields[b'tenant'].decode()}"
                     for fields in self.entries if b'tracked' in fields]
        return in_egress + [child for children in self.running.values() for child in children]


class Trace(RuleBasedStateMachine):
    """One queue, worked by up to three consumers."""

    def __init__(self, store) -> None:
        super().__init__()
        store.client.flushall()
        self.store, self.redis, self.model = store, store.client, Model()
        self.hand = Hand(store)
        self.queue, self.ns = self.hand.queue, self.hand.ns
        self.published = 0
        #: How many were taken from the queue: settled, started, purged or dropped.
        self.gone = 0
        #: Entry id to the model's task, for every entry there ever was.
        self.tasks: dict[str, Task] = {}
        #: How many in egress are there for the first time.
        self.dispatched = 0
        #: Sub-queue, tenant and priority to the last task that was dispatched.
        self.last: dict[tuple[str, str, int], int] = {}
        self.priorities: dict[int, int] = {}
        #: Whose options were set at run time.
        self.touched: set[str] = set()

    # -- what happens to a queue

    @initialize(qos=configs(), slots=st.integers(0, 5), publications=st.lists(tenants, max_size=9))
    def begin(self, qos, slots, publications):
        self.configure(qos)
        self.lease('w', slots)
        for tenant in publications:
            self.publish(tenant, 5, 1, '', None)

    @rule(tenant=tenants, priority=st.sampled_from(PRIORITIES), times=st.integers(1, 4),
          named=st.sampled_from(['', '', *SUB_QUEUES]), percent=st.sampled_from([None, 0, 20, 50, 90, 100]))
    def publish(self, tenant, priority, times, named, percent):
        for _ in range(times):
            number = next(self.hand.numbers)
            self.priorities[number] = priority
            expected = self.model.enqueue(Task(number, tenant, priority), named, percent)
            fields = {'number': str(number), 'tenant': tenant}
            try:
                outcome = self.store.enqueue(self.queue, tenant, priority, fields, named, percent)
            except QueueFull:
                assert expected in ('reject', 'drop-oldest')
            except ConfigError:
                assert expected == 'unknown'
            else:
                assert (outcome == 'egress') is (expected == 'egress')
                assert expected not in ('reject', 'drop-oldest', 'unknown')
                self.published += expected != 'dead-letter'
                self.gone += expected == 'dropped'

    @rule(consumer=consumers, slots=st.integers(0, 5))
    def lease(self, consumer, slots):
        assert self.hand.hire(consumer, slots) == self.model.lease(consumer, slots)

    @precondition(lambda self: self.model.in_egress)
    @rule(consumer=consumers, at_most=st.integers(1, 3), blocking=st.booleans())
    def read(self, consumer, at_most, blocking):
        self.store.declare(self.queue)
        expected = self.model.read(consumer, at_most, of_each=blocking)
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
    @rule(data=st.data(), seconds=seconds)
    def finish(self, data, seconds):
        """Tracked tasks are reported by their workers, the others settled; some twice, some were started before."""
        ids = self.pick(data)
        untracked = [each for each in ids if self.tasks[each].cost is None]
        settled = self.store.settle(self.queue, untracked)
        assert settled == self.model.settle([self.tasks[each] for each in untracked])
        self.gone += settled
        for each in ids:
            task = self.tasks[each]
            if task.cost is not None:
                before = len(self.model.in_egress)
                reported = self.store.finished(self.queue, task.owner, [self.tracked(each, seconds)])
                running = task in self.model.running[task.owner]
                assert reported == self.model.finish(task.owner, [task], seconds), before
                self.gone += reported and not running

    @precondition(lambda self: any(self.tasks[each].cost is not None for each in self.given))
    @rule(data=st.data())
    def start(self, data):
        """Acknowledge early."""
        for each in self.pick(data):
            task = self.tasks[each]
            if task.cost is not None:
                started = self.store.started(self.queue, task.owner, [self.tracked(each)])
                assert started == self.model.start(task.owner, [task])
                self.gone += started

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
        recovered = {recovery.consumer: recovery.tasks for recovery in self.hand.sweep()}
        assert recovered == self.model.sweep()

    @rule(tenant=tenants, values=some(of_tenant))
    def set_tenant(self, tenant, values):
        self.set(f'tenant:{tenant}', values)

    @rule(values=some(of_tenant, 2))
    def set_default(self, values):
        self.set('default', values)

    @precondition(lambda self: self.model.sub_queues)
    @rule(data=st.data(), values=some(of_sub_queue))
    def set_sub_queue(self, data, values):
        self.set(f'sub:{data.draw(st.sampled_from(sorted(self.model.sub_queues)))}', values)

    @rule(values=some(of_queue))
    def set_queue(self, values):
        self.set('queue', values)

    @precondition(lambda self: self.touched)
    @rule(data=st.data())
    def forget(self, data):
        """Go back to the config."""
        of = data.draw(st.sampled_from(sorted(self.touched)))
        self.set(of, dict.fromkeys(self.model.overrides[of], FORGET))

    @rule(qos=configs())
    def configure(self, qos):
        self.hand.configure(qos, force=True)
        self.model.configure(qos)

    @precondition(lambda self: self.model.backlog() > 8)
    @rule()
    def purge(self):
        purged = self.store.purge(self.queue)
        self.gone += purged
        assert purged == self.model.purge()

    def set(self, of, values):
        known = self.store.set(self.queue, of, values)
        assert known or of.startswith('sub:') and of[4:] not in self.model.sub_queues
        if known:
            self.touched.add(of)
            self.model.set(of, {name: value for name, value in values.items() if value is not FORGET},
                           forget=[name for name, value in values.items() if value is FORGET])

    def tracked(self, entry_id, seconds=None) -> Tracked:
        task = self.tasks[entry_id]
        return Tracked(entry_id, task.sub_queue, task.tenant, f'{task.cost:.6f}', seconds)

    @property
    def given(self) -> list[str]:
        """Ids of the last entries that workers were given; some are settled or went to others since."""
        return [entry_id for entry_id, task in self.tasks.items() if task.owner][-12:]

    def pick(self, data) -> list[str]:
        return data.draw(st.lists(st.sampled_from(self.given), min_size=1, max_size=4, unique=True))

    # -- what always holds

    @invariant()
    def holds(self):
        if not self.redis.exists(keys.settings(self.ns)):
            return
        there = Snapshot(self.hand)
        self.same_tasks(there)
        self.same_tags(there)
        self.accounts_agree(there)
        self.slots_are_kept(there)
        self.no_slot_is_free_while_an_eligible_task_waits(there)
        self.nobody_is_forgotten(there)
        self.nothing_is_left_behind(there)
        self.first_in_first_out(there)
        for entry, task in zip(there.egress, self.model.in_egress):
            self.tasks[entry.entry_id] = task

    def same_tasks(self, there: Snapshot):
        model = self.model
        assert [entry[1:] for entry in there.egress] == [task.shape for task in model.in_egress]
        costs = [fields.get(b'tracked') for fields in there.entries]
        assert costs == [None if task.cost is None else b'%.6f' % task.cost for task in model.in_egress]
        assert there.streams == {(child, priority): [task.number for task in tasks]
                                 for child, streams in model.waiting.items() for priority, tasks in streams.items()}
        assert {consumer: sorted(children) for consumer, children in there.running.items()} == {
            consumer: sorted(f'{task.sub_queue}:{task.tenant}' for task in tasks)
            for consumer, tasks in model.running.items() if tasks}
        assert there.dead == model.dead
        assert self.store.counters(self.queue) == model.refused
        assert self.store.size(self.queue) == model.size
        assert there.rooted == model.rooted or not model.waiting

    def same_tags(self, there: Snapshot):
        model = self.model
        for kind, found in there.tags.items():
            expected = {node: getattr(tags, kind) for node, tags in model.nodes.items() if getattr(tags, kind)}
            assert found.keys() == expected.keys(), kind
            for node, tags in found.items():
                assert tags == pytest.approx(expected[node], rel=1e-12, abs=1e-12), (kind, node, tags, expected[node])
        for node in there.tags['ready']:
            vtime = there.state.get(f'vtime:{node}')
            assert vtime is None or vtime == pytest.approx(model.virtual_time(node), rel=1e-12), node
        assert set(there.parked) == model.parked
        assert there.spent == model.spent
        assert there.averages == model.averages
        assert set(there.leases) == set(model.leases)

    def accounts_agree(self, there: Snapshot):
        waiting: Counter = Counter()
        for (child, _), numbers in there.streams.items():
            waiting.update(dict.fromkeys(chain_of(child, there.rooted), len(numbers)))
        assert there.slots == self.model.slots
        assert there.state.get('slots', 0) == sum(there.slots.values())
        assert there.waiting == waiting
        assert there.state.get('waiting', 0) == sum(map(len, there.streams.values()))
        assert there.in_flight == Counter(subject for child in there.tracked for subject in {
            subject_of(each) for each in chain_of(child, rooted=True)})
        # Each task is in one place.
        numbers = [entry.number for entry in there.egress] + [n for stream in there.streams.values() for n in stream]
        assert len(numbers) == len(set(numbers)) == self.published - self.gone

    def slots(self, there: Snapshot) -> float:
        capacity = there.settings.get(b'capacity')
        return min([sum(there.slots.values()), *([float(capacity)] if capacity else [])])

    def slots_are_kept(self, there: Snapshot):
        dispatched = sum(not entry.redelivered for entry in there.egress)
        assert dispatched <= max(self.slots(there), self.dispatched), 'more was dispatched than there are slots'
        self.dispatched = dispatched

    def no_slot_is_free_while_an_eligible_task_waits(self, there: Snapshot):
        in_flight = Counter(subject_of(each) for child in there.tracked for each in chain_of(child, rooted=True))

        def borrows(child: str) -> float:
            """0 where a slot is its own, 1 where it would borrow it, else more."""
            options, subject = self.model.options(child), subject_of(child)
            if options.paused or options.rate and subject in there.spent:
                return 2
            beyond = in_flight[subject] + 1 - (options.max_in_flight or 10 ** 9)
            return 0 if beyond <= 0 else 1 if beyond <= options.burst else 2

        if len(there.egress) < self.slots(there):
            for child, _ in there.streams:
                assert sum(map(borrows, chain_of(child, there.rooted))) > 1, f'a slot is free while {child!r} waits'

    def nobody_is_forgotten(self, there: Snapshot):
        ready = {child for children in there.tags['ready'].values() for child in children}
        leaves = {child for child, _ in there.streams}
        for child in leaves:
            for each in chain_of(child, there.rooted):
                if each == child or there.tags['ready'].get(each):
                    assert each in ready or each in there.parked, f'{each!r} is neither ready nor parked'
        assert not ready & set(there.parked)
        for each in ready | set(there.parked):
            assert each in there.waiting, f'{each!r} has no tasks'

    def nothing_is_left_behind(self, there: Snapshot):
        nodes = set(there.tags['ready'])
        assert set(there.tags['finish']) <= nodes and set(there.tags['owing']) <= nodes
        for name in there.state:
            kind, colon, node = name.partition(':')
            assert not colon or node in nodes, name
        assert set(there.lendable) <= set(there.parked)
        for children in there.tags['owing'].values():
            assert {subject_of(child) for child in children} <= set(there.in_flight)

    def first_in_first_out(self, there: Snapshot):
        for fields in there.entries:
            number = number_of(fields)
            origin = fields.get(b'sub', b'').decode(), fields[b'tenant'].decode(), self.priorities[number]
            self.last[origin] = max(number, self.last.get(origin, 0))
        for (child, priority), numbers in there.streams.items():
            sub, _, path = child.partition(':')
            assert numbers == sorted(numbers)
            assert numbers[0] > self.last.get((sub, path.removesuffix(PART), priority), 0), 'a task was overtaken'

    # -- the end

    def teardown(self):
        for consumer in CONSUMERS:
            self.store.release(self.queue, consumer)
        self.hand.hire('last', 100)
        for of in self.touched:
            self.store.set(self.queue, of, dict.fromkeys(self.model.overrides[of], FORGET))
        self.hand.configure(QoS(), force=True)
        self.store.declare(self.queue)
        while deliveries := self.hand.read('last'):
            self.gone += self.hand.finish(*deliveries, consumer='last')
        self.store.release(self.queue, 'last')
        assert self.gone == self.published, self.hand.all_keys()
        assert self.hand.all_keys() - {'dead', 'tokens'} == {'settings'}
        self.store.delete(self.queue)
        assert not self.redis.keys()


#: TRACE=hunt draws other traces each time and makes a failing one small, however long it takes. Else they are the same
#: each time, so that what passes does not fail without a change.
HUNTS = os.environ.get('TRACE') == 'hunt'


@pytest.mark.timeout(3600 if HUNTS else 180)
@pytest.mark.parametrize('steps, examples', [
    pytest.param(20, 150, id='short'), pytest.param(100, 40, id='long', marks=pytest.mark.once)])
def test_scripts_do_what_the_model_does(store, caplog, steps: int, examples: int):
    caplog.set_level(logging.ERROR)
    run_state_machine_as_test(lambda: Trace(store), settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True, database=None,
        derandomize=not HUNTS, phases=list(Phase) if HUNTS else [Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck)))
