"""Sub-queues: where a task goes, and in which proportion they are served."""
from __future__ import annotations

from collections import Counter

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError
from celery_qos.evaluators import RoundRobin, percent_of
from tests.lua.contest import Contest
from tests.lua.turns import fill, longest_block

WEIGHTS = {'high': 250, 'medium': 600, 'low': 150}


def example(**options) -> QoS:
    return QoS('wrr', [SubQueue('high', 100, 250), SubQueue('medium', 200, 600), SubQueue('low', 700, 150)], **options)


def served_sub_queues(hand, turns: int) -> list[str]:
    served = []
    while len(served) < turns and (read := hand.read(at_most=1)):
        served.append(read[0].fields[b'sub'].decode())
        hand.finish(*read, seconds=1)
    return served


class TestWorkedExample:
    """Weights 250, 600 and 150."""

    @pytest.mark.parametrize('level', ['sub-queues', 'tenants'])
    def test_every_7_turns_are_2_4_and_1_interleaved(self, hand, level):
        # The implicit sub-queue's tenants are served by their exact weights, sub-queues in rounds of whole turns.
        weights = WEIGHTS if level == 'sub-queues' else {'high': 2, 'medium': 4, 'low': 1}
        contest = Contest(hand, level, 'wrr', weights)
        for name, times in ('high', 100), ('medium', 200), ('low', 60):
            contest.put(name, times)

        turns = contest.serve(1 + 7 * 48)[1:]

        for i in range(len(turns) - 6):
            assert Counter(turns[i:i + 7]) == {'high': 2, 'medium': 4, 'low': 1}
        assert longest_block(turns, 'medium') <= 2
        assert longest_block(turns, 'high') == longest_block(turns, 'low') == 1

    @pytest.mark.parametrize('tenants', [1, 5])
    def test_whatever_the_number_of_tenants_inside(self, hand, tenants):
        hand.configure(example())
        for number in range(tenants):
            fill(hand, [(f'tenant {number}', 100 // tenants)], 'high')
            fill(hand, [(f'tenant {number}', 200 // tenants)], 'medium')
        fill(hand, [('alone', 60)], 'low')
        hand.hire()
        turns = served_sub_queues(hand, 281)[1:]
        assert Counter(turns) == {'high': 80, 'medium': 160, 'low': 40}

    @pytest.mark.parametrize('percent, name', [
        (0, 'high'), (0.1, 'high'), (25, 'high'), (25.001, 'medium'), (60, 'medium'), (85, 'medium'), (85.001, 'low'),
        (100, 'low'), (None, 'low')])
    def test_the_percent_falls_to_the_sub_queue_that_has_this_share_of_ingress(self, hand, percent, name):
        hand.configure(example())
        hand.put('a', percent=percent)
        assert hand.redis.exists(keys.tenant_stream(hand.ns, 'a', 5, name))

    def test_of_100_tasks_each_gets_its_share(self, hand):
        hand.configure(example())
        evaluator = RoundRobin()
        for _ in range(100):
            hand.put('a', percent=percent_of(evaluator, {}))
        assert hand.store.waiting('q') == {'high:a': 25, 'medium:a': 60, 'low:a': 15}

    def test_the_capacities_add_up(self):
        assert example().capacity == 1000

    @pytest.mark.parametrize('algorithm, turns', [
        ('pq', 'high ' * 6 + 'medium ' * 6 + 'low ' * 6), ('rr', 'high medium low ' * 6)])
    def test_pq_and_rr_consider_weight_on_the_way_in_only(self, hand, algorithm, turns):
        hand.configure(QoS(algorithm, example().queues))
        for _ in range(6):
            for percent in 20, 60, 90:
                hand.put('a', percent=percent)
        hand.hire()
        assert served_sub_queues(hand, 18) == turns.split()


class TestWhereATaskGoes:
    def test_the_name_it_gives_wins_over_the_tenants_and_that_over_the_percent(self, hand):
        hand.configure(example(tenants={'silver': Tenant(sub_queue='medium')}))
        hand.put('silver', sub_queue='high', percent=90)
        hand.put('silver', percent=90)
        hand.put('other', percent=90)
        assert hand.store.waiting('q') == {'high:silver': 1, 'medium:silver': 1, 'low:other': 1}

    def test_a_tenants_sub_queue_holds_for_those_inside(self, hand):
        hand.configure(example(tenants={'silver': Tenant(sub_queue='medium')}))
        hand.put('silver\x1fuser', percent=90)
        assert hand.redis.exists(keys.tenant_stream(hand.ns, 'silver\x1fuser', 5, 'medium'))

    @pytest.mark.parametrize('qos', [None, example()])
    def test_an_unknown_name_is_told_to_the_publisher(self, hand, qos):
        if qos:
            hand.configure(qos)
        with pytest.raises(ConfigError, match='hihg') as caught:
            hand.put('a', sub_queue='hihg')
        assert not qos or "'high'" in str(caught.value)
        assert hand.store.waiting('q') == {}

    def test_sub_queues_without_names_are_called_by_their_index(self, hand):
        hand.configure(QoS(queues=[{'capacity': 5, 'weight': 1}, {'capacity': 5, 'weight': 1}]))
        hand.put('a', sub_queue='1')
        assert hand.store.waiting('q') == {'1:a': 1}

    def test_halves_of_the_weight_may_differ(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 1000, ingress_weight=90, egress_weight=1),
                                   SubQueue('y', 1000, ingress_weight=10, egress_weight=3)]))
        for percent in range(1, 101):
            hand.put('a', percent=percent)
        assert hand.store.waiting('q') == {'x:a': 90, 'y:a': 10}
        hand.hire()
        assert Counter(served_sub_queues(hand, 12)) == {'x': 3, 'y': 9}


class TestTenantsInside:
    def test_each_sub_queue_has_its_own_algorithm(self, hand):
        hand.configure(QoS('rr', [SubQueue('w', 100, 1), SubQueue('p', 100, 1, algorithm='pq'),
                                  SubQueue('r', 100, 1, algorithm='rr')], tenants={'z': Tenant(3), 'a': Tenant(1)}))
        for name in 'wpr':
            fill(hand, [('a', 16), ('z', 16)], name)
        hand.hire()
        served = [tuple(read[0].fields[name].decode() for name in (b'sub', b'tenant'))
                  for _ in range(48) for read in [hand.read(at_most=1)] if hand.finish(*read)]
        assert [tenant for name, tenant in served if name == 'p'] == ['z'] * 16
        assert Counter(tenant for name, tenant in served if name == 'w') == {'z': 12, 'a': 4}
        assert Counter(tenant for name, tenant in served if name == 'r') == {'z': 8, 'a': 8}

    def test_a_tenant_in_two_sub_queues_pays_in_each(self, hand):
        hand.configure(QoS('rr', [SubQueue('x', 100, 1), SubQueue('y', 100, 1)]))
        fill(hand, [('both', 40), ('xonly', 40)], 'x')
        fill(hand, [('both', 40)], 'y')
        hand.hire()
        turns = Counter(hand.serve(40))
        assert turns['both'] == pytest.approx(30, abs=1)


class TestEgress:
    def test_its_capacity_bounds_what_is_delivered(self, hand):
        hand.configure(QoS(egress={'capacity': 3}))
        fill(hand, [('a', 20)])
        hand.hire('v', slots=4)
        hand.hire('w', slots=4)
        assert len(hand.in_egress()) == 3

    def test_so_do_the_slots_where_they_are_fewer(self, hand):
        hand.configure(QoS(egress={'capacity': 30}))
        fill(hand, [('a', 20)])
        hand.hire(slots=4)
        assert len(hand.in_egress()) == 4

    def test_tasks_are_spread_over_its_streams(self, hand):
        hand.configure(QoS(egress={'streams': 3}))
        fill(hand, [('a', 40)])
        hand.hire(slots=9)
        lengths = [hand.redis.xlen(keys.egress(hand.ns, stream)) for stream in range(3)]
        assert lengths == [3, 3, 3]
        read = hand.read()
        assert Counter(delivery.stream for delivery in read) == {0: 3, 1: 3, 2: 3}
        hand.finish(*[delivery for delivery in read if delivery.stream == 1])
        assert [hand.redis.xlen(keys.egress(hand.ns, stream)) for stream in range(3)] == [3, 3, 3]

    def test_nothing_is_lost_or_doubled_with_many_streams(self, hand):
        hand.configure(QoS('dwrr', egress={'streams': 5, 'capacity': 4}))
        fill(hand, [('a', 30), ('b', 30)])
        hand.hire(slots=7)
        seen = []
        while read := hand.read():
            seen += [int(delivery.fields[b'number']) for delivery in read]
            assert len(read) <= 4
            hand.finish(*read, seconds=0.1)
        assert sorted(seen) == list(range(1, 61))

    def test_as_many_loops_sweep_as_workers_says(self, hand):
        hand.configure(QoS(egress={'workers': 2, 'idle_threshold': 7, 'idle_timeout': 2.5}))
        hand.hire()
        first, second, third = (hand.store.sweep('q', 600, f'sweeper {number}') for number in range(3))
        assert (first.holds, second.holds, third.holds) == (True, True, False)
        assert (first.idle_threshold, first.idle_timeout) == (7, 2.5)
        hand.store.leave_sweep('q', 'sweeper 0')
        assert hand.store.sweep('q', 600, 'sweeper 2').holds
