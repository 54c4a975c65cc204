"""Capacity, max_in_flight with burst, rate and paused: of a tenant, of a sub-queue, and of a tenant inside a tenant."""
from __future__ import annotations

from collections import Counter
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.errors import QueueFull
from celery_qos.keys import PART
from celery_qos.store import Delivery
from tests.lua.hand import Hand, commands_of, number_of
from tests.lua.turns import fill
from tests.until import until

KINDS = ('tenant', 'sub-queue', 'inner tenant')


class Subject:
    """One that is limited, and one beside it that is not.

    Arguments:
        kind: one of `KINDS`.
    """

    def __init__(self, hand: Hand, kind: str) -> None:
        self.hand, self.kind = hand, kind
        self.tenant = {'tenant': 'limited', 'sub-queue': 'anyone', 'inner tenant': f'outer{PART}limited'}[kind]
        self.other = {'tenant': 'other', 'sub-queue': 'anyone', 'inner tenant': f'outer{PART}other'}[kind]
        self.sub_queue, self.other_sub_queue = ('limited', 'other') if kind == 'sub-queue' else ('', '')

    def configure(self, algorithm: str = 'wrr', **options: Any) -> None:
        if self.kind == 'sub-queue':
            self.hand.configure(QoS(algorithm, [SubQueue('limited', **{'capacity': 10_000, 'weight': 1, **options}),
                                                SubQueue('other', 10_000, 1)]))
        else:
            self.hand.configure(QoS(algorithm, tenants={self.tenant: Tenant(**options)}))

    def set(self, **options: Any) -> None:
        of = 'sub:limited' if self.kind == 'sub-queue' else f'tenant:{self.tenant}'
        assert self.hand.store.set(self.hand.queue, of, options)

    def put(self, times: int = 1, **kwargs: Any) -> int:
        return self.hand.put(self.tenant, times, sub_queue=self.sub_queue, **kwargs)

    def put_other(self, times: int = 1) -> None:
        fill(self.hand, [(self.other, times)], self.other_sub_queue)

    def is_limited(self, delivery: Delivery) -> bool:
        return delivery.fields[b'tenant'].decode() == self.tenant and \
            delivery.fields.get(b'sub', b'').decode() == self.sub_queue

    def delivered(self) -> list[int]:
        """Numbers of those of the limited one that lie in egress."""
        return [number_of(fields) for entry_id, fields in self.hand.redis.xrange(keys.egress(self.hand.ns))
                if self.is_limited(Delivery('', entry_id, fields))]

    def waiting(self) -> list[int]:
        stream = keys.tenant_stream(self.hand.ns, self.tenant, 5, self.sub_queue)
        return [number_of(fields) for _, fields in self.hand.redis.xrange(stream)]


@pytest.fixture(params=KINDS)
def subject(hand, request) -> Subject:
    return Subject(hand, request.param)


class TestCapacity:
    def test_a_full_one_rejects_and_says_so(self, hand, subject):
        subject.configure(capacity=3)
        subject.put(3)
        with pytest.raises(QueueFull) as caught:
            subject.put()
        full = caught.value
        assert (full.queue, full.sub_queue, full.tenant, full.capacity) == ('q', subject.sub_queue, subject.tenant, 3)
        assert subject.waiting() == [1, 2, 3]
        assert hand.store.counters('q') == {('reject', subject.sub_queue): 1}
        subject.put_other(10)

    def test_what_is_delivered_does_not_count(self, hand, subject):
        subject.configure(capacity=3)
        hand.hire(slots=2)
        subject.put(5)
        with pytest.raises(QueueFull):
            subject.put()
        hand.finish(*hand.read(at_most=1))
        subject.put()

    def test_a_full_one_may_send_the_new_task_to_the_dead_letters(self, hand, subject):
        subject.configure(capacity=2, on_full='dead-letter')
        subject.put(4)
        assert subject.waiting() == [1, 2]
        dead = [fields for _, fields in hand.redis.xrange(keys.dead(hand.ns))]
        assert [(number_of(fields), fields[b'reason']) for fields in dead] == [(3, b'full'), (4, b'full')]
        assert hand.store.counters('q') == {('dead-letter', subject.sub_queue): 2}

    def test_a_full_one_may_drop_the_oldest(self, hand, subject):
        subject.configure(capacity=2, on_full='drop-oldest')
        subject.put(5)
        assert subject.waiting() == [4, 5]
        assert hand.store.counters('q') == {('drop-oldest', subject.sub_queue): 3}
        assert hand.state()['waiting'] == 2
        hand.hire()
        assert len(hand.serve(3)) == 2

    def test_the_least_urgent_one_is_dropped(self, hand, subject):
        subject.configure(capacity=2, on_full='drop-oldest')
        for priority in 5, 9, 0:
            subject.put(priority=priority)
        hand.hire(slots=2)
        assert hand.in_egress() == [3, 1]

    def test_one_who_has_none_to_drop_is_rejected(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 2, 1, on_full='drop-oldest'), SubQueue('y', 9, 1)]))
        hand.put('a', times=2, sub_queue='x')
        with pytest.raises(QueueFull):
            hand.put('b', sub_queue='x')
        assert hand.store.counters('q') == {('reject', 'x'): 1}

    @pytest.mark.parametrize('on_full', ['reject', 'dead-letter', 'drop-oldest'])
    def test_one_that_was_admitted_before_is_exempt(self, hand, subject, on_full):
        subject.configure(capacity=1, on_full=on_full)
        subject.put()
        subject.put(exempt=True)
        assert subject.waiting() == [1, 2]
        assert hand.store.counters('q') == {}

    def test_may_be_set_and_lifted_at_run_time(self, hand, subject):
        subject.configure(capacity=2)
        subject.put(2)
        subject.set(capacity=None)
        subject.put(2)
        subject.set(capacity=3, on_full='dead-letter')
        subject.put()
        assert subject.waiting() == [1, 2, 3, 4]

    def test_a_tenants_counts_in_all_sub_queues(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 100, 1), SubQueue('y', 100, 1)], tenants={'a': Tenant(capacity=3)}))
        hand.put('a', times=2, sub_queue='x')
        hand.put('a', sub_queue='y')
        for name in 'xy':
            with pytest.raises(QueueFull):
                hand.put('a', sub_queue=name)
            hand.put('b', sub_queue=name)

    def test_a_tenants_counts_those_inside(self, hand):
        hand.configure(QoS(tenants={'a': Tenant(capacity=3)}))
        for path in 'a', 'a\x1fx', 'a\x1fy':
            hand.put(path)
        for path in 'a', 'a\x1fx', 'a\x1fy\x1f1':
            with pytest.raises(QueueFull) as caught:
                hand.put(path)
            assert caught.value.capacity == 3

    def test_of_the_default_tenant_is_for_each(self, hand):
        hand.configure(QoS(default_tenant=Tenant(capacity=2), tenants={'named': Tenant()}))
        for tenant in 'ab':
            hand.put(tenant, times=2)
            with pytest.raises(QueueFull):
                hand.put(tenant)
        hand.put('named', times=5)


class TestMaxInFlight:
    @pytest.mark.parametrize('algorithm', ['pq', 'rr', 'wrr', 'dwrr'])
    def test_no_more_are_delivered(self, hand, subject, algorithm):
        subject.configure(algorithm, max_in_flight=2)
        hand.hire('v', slots=3)
        hand.hire('w', slots=3)
        subject.put(20)
        assert len(subject.delivered()) == 2
        subject.put_other(20)
        assert (len(subject.delivered()), len(hand.in_egress())) == (2, 6)
        served = []
        while read := hand.read():
            assert len(subject.delivered()) <= 2
            served += [number_of(delivery.fields) for delivery in read if subject.is_limited(delivery)]
            hand.finish(read[0], seconds=0.1)
            hand.finish(*read[1:], seconds=0.1)
        assert served == list(range(1, 21))

    def test_what_was_acknowledged_early_counts_until_it_ends(self, hand, subject):
        subject.configure(max_in_flight=2)
        hand.hire(slots=6)
        subject.put(10)
        running = hand.read()
        hand.start(*running)
        assert len(running) == 2 and hand.in_egress() == []
        assert hand.finish(running[0], seconds=1) == 1
        assert hand.finish(running[0], seconds=1) == 0
        assert len(subject.delivered()) == 1

    def test_a_dead_workers_places_are_given_up(self, hand, subject):
        subject.configure(max_in_flight=2)
        hand.hire('dead', slots=6)
        subject.put(10)
        started, _ = hand.read('dead')
        hand.start(started, consumer='dead')
        hand.hire('w', slots=6)
        hand.end_lease('dead')
        hand.sweep()
        # One is delivered again, and the place of the other is free.
        assert len(subject.delivered()) == 2
        hand.finish(*hand.read())
        assert len(subject.delivered()) == 2

    def test_a_redelivery_keeps_its_place(self, hand, subject):
        subject.configure(max_in_flight=2)
        hand.hire(slots=6)
        subject.put(10)
        read = hand.read()
        for _ in range(3):
            hand.requeue(read[0])
            read = [*hand.read(), read[1]]
            assert len(subject.delivered()) == 2
        hand.finish(*read)
        assert len(subject.delivered()) == 2

    def test_a_tenants_counts_in_all_sub_queues(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 100, 1), SubQueue('y', 100, 1)],
                           tenants={'a': Tenant(max_in_flight=2), 'b': Tenant(rate='1/h')}))
        hand.hire(slots=9)
        for name in 'xy':
            hand.put('a', times=5, sub_queue=name)
            hand.put('b', times=5, sub_queue=name)
        read, served = hand.read(), []
        assert sorted(delivery.fields[b'tenant'] for delivery in read) == [b'a', b'a', b'b']
        while read:
            served += read
            hand.finish(*read)
            read = hand.read()
            assert len(read) <= 2
        assert Counter(delivery.fields[b'tenant'] for delivery in served) == {b'a': 10, b'b': 1}

    def test_may_be_raised_and_lowered_at_run_time(self, hand, subject):
        subject.configure(max_in_flight=1)
        hand.hire(slots=6)
        subject.put(20)
        subject.set(max_in_flight=4)
        assert len(subject.delivered()) == 4
        subject.set(max_in_flight=2)
        hand.finish(*hand.read()[:2])
        assert len(subject.delivered()) == 2
        subject.set(max_in_flight=None)
        assert len(subject.delivered()) == 6

    def test_a_burst_is_lent_while_slots_are_idle(self, hand, subject):
        subject.configure(max_in_flight=2, burst=3)
        hand.hire(slots=8)
        subject.put(20)
        assert len(subject.delivered()) == 5
        hand.finish(*hand.read()[:3])
        assert len(subject.delivered()) == 5

    def test_what_was_lent_goes_to_others_when_they_come(self, hand, subject):
        subject.configure(max_in_flight=2, burst=6)
        hand.hire(slots=8)
        subject.put(30)
        assert len(subject.delivered()) == 8
        subject.put_other(30)
        held = hand.read()
        for _ in range(6):
            hand.finish(next(delivery for delivery in held if subject.is_limited(delivery)))
            held = [delivery for delivery in held if delivery.entry_id in
                    {entry.entry_id for entry in hand.egress()}] + hand.read()
        assert len(subject.delivered()) == 2
        assert len(hand.in_egress()) == 8

    def test_who_borrows_least_is_lent_to_first(self, hand):
        hand.configure(QoS(default_tenant=Tenant(max_in_flight=1, burst=9)))
        for tenant in 'abc':
            fill(hand, [(tenant, 20)])
        hand.hire(slots=9)
        assert sorted(entry.fields[b'tenant'] for entry in hand.read()) == [b'a'] * 3 + [b'b'] * 3 + [b'c'] * 3


class TestRate:
    def test_of_what_nobody_fetched_a_tenth_of_a_second_is_kept(self, hand, subject):
        subject.configure(rate=50)
        hand.hire(slots=200)
        start = server_seconds(hand)
        subject.put(50)
        published = server_seconds(hand)
        until(lambda: server_seconds(hand) - published > 0.5)
        hand.sweep()
        assert 10 <= len(subject.delivered()) <= 10 + 50 * (published - start) + 1

    def test_the_tokens_of_a_loop_that_sweeps_are_all_used(self, hand, subject):
        subject.configure(rate=100)
        hand.hire(slots=500)
        looks = [server_seconds(hand)]
        subject.put(200)
        while looks[-1] - looks[0] < 0.6:
            hand.sweep()
            looks.append(server_seconds(hand))
        count, seconds = len(subject.delivered()), server_seconds(hand) - looks[0]
        # What came in while this test was kept from sweeping for longer than a bucket lasts is lost.
        used = sum(min(later - earlier, 0.1) for earlier, later in pairwise(looks))
        assert 100 * used * 0.8 <= count <= 10 + 100 * seconds + 1

    def test_a_sweep_says_when_the_next_is_due(self, hand, subject):
        subject.configure(rate='1/m')
        hand.hire(slots=10)
        subject.put(3)
        assert len(subject.delivered()) == 1
        due_ms = hand.store.sweep('q', 600, 'sweeper').due_ms
        assert due_ms is not None and 58_000 <= due_ms <= 60_000

    def test_a_change_acts_on_those_that_wait(self, hand, subject):
        subject.configure(rate='1/h')
        hand.hire(slots=10)
        subject.put(3)
        assert len(subject.delivered()) == 1
        subject.set(rate=1000)
        start = monotonic()
        while len(subject.delivered()) < 3:
            assert monotonic() - start < 5
            hand.sweep()

    def test_a_clock_that_is_set_back_keeps_nobody_waiting(self, hand, subject):
        subject.configure(rate='1/m')
        hand.hire(slots=10)
        subject.put(2)
        assert len(subject.delivered()) == 1
        for name, bucket in hand.redis.hgetall(keys.tokens(hand.ns)).items():
            tokens, at = bucket.decode().split()
            hand.redis.hset(keys.tokens(hand.ns), name, f'{tokens} {int(at) + 3_600_000}')
        subject.set(weight=2)
        assert len(subject.delivered()) == 2

    def test_lifted_it_limits_no_more(self, hand, subject):
        subject.configure(rate='1/h')
        hand.hire(slots=10)
        subject.put(3)
        subject.set(rate=None)
        assert len(subject.delivered()) == 3

    def test_a_sleeping_loop_is_woken_for_the_first_that_is_due(self, hand, subject):
        subject.configure(rate='1/m')
        hand.hire(slots=10)
        assert not hand.redis.exists(keys.bell(hand.ns))
        subject.put(2)
        assert hand.redis.exists(keys.bell(hand.ns))


class TestPaused:
    def test_none_are_delivered_until_it_is_lifted(self, hand, subject):
        subject.configure(paused=True)
        hand.hire(slots=3)
        subject.put(5)
        subject.put_other(2)
        assert subject.delivered() == [] and len(hand.in_egress()) == 2
        subject.set(paused=False)
        assert len(hand.in_egress()) == 3

    def test_a_pause_acts_on_those_that_wait(self, hand, subject):
        subject.configure()
        hand.hire(slots=2)
        subject.put(10)
        subject.set(paused=True)
        assert len(subject.delivered()) == 2     # what is delivered goes on
        hand.finish(*hand.read())
        assert subject.delivered() == []
        subject.set(paused=False)
        assert subject.delivered() == [3, 4]

    def test_it_saves_no_turns(self, hand, subject):
        subject.configure()
        subject.put(60)
        subject.put_other(100)
        hand.hire()
        subject.set(paused=True)
        hand.serve(40)
        subject.set(paused=False)
        reads = (hand.read(at_most=1) for _ in range(40))
        counts = [subject.is_limited(read[0]) for read in reads if hand.finish(*read)]
        assert 19 <= sum(counts) <= 21


class TestNoTurnIsLost:
    """Limits that do not bind change nothing, and one that is held back is as good as absent."""

    def drain(self, hand: Hand, subject: Subject, slots: int = 4) -> tuple[int, list[int]]:
        """Rounds in which every slot ends its task until nothing is delivered, and how many tasks each had."""
        hand.hire(slots=slots)
        rounds = []
        while read := hand.read():
            rounds.append(len(read))
            hand.finish(*read, seconds=1)
        return len(rounds), rounds

    @pytest.mark.parametrize('algorithm', ['pq', 'rr', 'wrr', 'dwrr'])
    def test_makespan_with_idle_limits_is_that_without(self, hand, subject, algorithm):
        found = []
        for options in {}, {'max_in_flight': 100, 'burst': 5, 'rate': 1e6, 'paused': False, 'capacity': 1000}:
            hand.redis.flushall()
            subject.configure(algorithm, **options)
            subject.put(40)
            subject.put_other(40)
            found.append(self.drain(hand, subject))
        assert found[0] == found[1] == (20, [4] * 20)

    @pytest.mark.parametrize('options', [{'paused': True}, {'rate': '1/h'}], ids=str)
    def test_beside_one_that_is_held_back_others_are_as_fast_as_alone(self, hand, subject, options):
        subject.configure(**options)
        if 'rate' in options:
            hand.hire()
            subject.put(2)
            hand.finish(*hand.read())
        subject.put(40)
        subject.put_other(40)
        assert self.drain(hand, subject) == (10, [4] * 10)

    def test_a_cap_leaves_the_rest_to_others(self, hand, subject):
        subject.configure(max_in_flight=1)
        subject.put(100)
        subject.put_other(30)
        hand.hire(slots=4)
        for _ in range(10):
            read = hand.read()
            assert [subject.is_limited(delivery) for delivery in read].count(True) == 1 and len(read) == 4
            hand.finish(*read)

    @pytest.mark.parametrize('kind', ['tenant', 'sub-queue'])
    @pytest.mark.parametrize('options', [{'paused': True}, {'max_in_flight': 1}, {'rate': '1/h'}], ids=str)
    def test_one_that_is_held_back_costs_the_server_nothing(self, hand, kind, options):
        """The commands that the others' turns take."""
        subject, costs = Subject(hand, kind), []
        for held_back in False, True:
            hand.redis.flushall()
            subject.configure(**options)
            hand.hire(slots=3)
            if held_back:
                subject.put(20)
            subject.put_other(20)
            hand.finish(*[delivery for delivery in hand.read() if not subject.is_limited(delivery)])
            done = [delivery for delivery in hand.read() if not subject.is_limited(delivery)][0]
            costs.append(commands_of(hand.redis, lambda done=done: hand.settle(done)))
        assert costs[0] == costs[1]


def server_seconds(hand: Hand) -> float:
    seconds, micros = hand.redis.time()
    return seconds + micros / 1e6
