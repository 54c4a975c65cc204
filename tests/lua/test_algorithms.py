"""What every algorithm keeps, and what each is for; among tenants, sub-queues and tenants inside a tenant."""
from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

import pytest

from celery_qos import keys
from celery_qos.config import ALGORITHMS, QoS, SubQueue, Tenant
from tests.lua.contest import LEVELS, Contest
from tests.lua.hand import Hand, number_of
from tests.lua.turns import backlog, fill, jain, longest_block, longest_wait

pytestmark = pytest.mark.once

FAIR = [algorithm for algorithm in ALGORITHMS if algorithm != 'pq']

every_algorithm = pytest.mark.parametrize('algorithm', ALGORITHMS)
every_fair_one = pytest.mark.parametrize('algorithm', FAIR)
every_level = pytest.mark.parametrize('level', LEVELS)


@every_algorithm
class TestEvery:
    @pytest.mark.parametrize('seed', range(3))
    @pytest.mark.parametrize('capacity', [None, 2])
    def test_no_slot_is_free_while_a_task_waits_and_a_tenants_tasks_run_in_order(self, hand, algorithm, seed, capacity):
        random = Random(seed)
        subs = [SubQueue(name, 1000, weight, algorithm=algorithm) for name, weight in (('x', 3), ('y', 1))]
        hand.configure(QoS(algorithm, subs if seed else [], egress={'capacity': capacity},
                           tenants={'b': Tenant(0.01), 'a': Tenant(50)}))
        slots = capacity or 3
        hand.hire(slots=3)
        waiting, ran, published = [], defaultdict(list), 0
        while published < 150 or waiting:
            if published < 150 and random.random() < 0.6:
                published = hand.put(random.choice(['a', 'b', 'c', 'd', 'c\x1f1', 'c\x1f2']),
                                     sub_queue=random.choice('xy') if seed else '')
            waiting += hand.read()
            assert len(waiting) == min(slots, published - sum(map(len, ran.values())))
            if waiting and random.random() < 0.5:
                task = waiting.pop(random.randrange(len(waiting)))
                hand.finish(task, seconds=random.random())
                ran[task.fields[b'tenant'], task.fields.get(b'sub')].append((task.entry_id, number_of(task.fields)))
        assert sum(map(len, ran.values())) == 150
        for tasks in ran.values():
            numbers = [number for _, number in sorted(tasks, key=lambda task: [int(x) for x in task[0].split('-')])]
            assert numbers == sorted(numbers)
        assert hand.state().get('waiting', 0) == 0

    def test_within_a_tenant_the_more_urgent_task_is_first(self, hand, algorithm):
        hand.configure(QoS(algorithm))
        last, second, first = (hand.put('a', priority=priority) for priority in (9, 5, 0))
        hand.hire()
        for number in first, second, last:
            read, = hand.read()
            assert number_of(read.fields) == number
            hand.finish(read)

    def test_an_idle_queue_leaves_nothing_but_its_settings(self, hand, algorithm):
        hand.configure(QoS(algorithm, [SubQueue('x', 10, 1, algorithm=algorithm), SubQueue('y', 10, 1)]))
        hand.hire(slots=2)
        for tenant in 'a', 'b', 'c\x1f1', 'c':
            hand.put(tenant, sub_queue='x')
            hand.put(tenant, sub_queue='y')
        while read := hand.read():
            hand.finish(*read, seconds=0.1)
        hand.hire(slots=0)
        assert hand.all_keys() == {'settings'}


@every_level
class TestWhatEachIsFor:
    def test_pq_is_strict_in_declared_order(self, hand, level):
        contest = Contest(hand, level, 'pq', {'z': 0.01, 'a': 100, 'm': 1})
        for who in 'maz':
            contest.put(who, 4)
        first, *turns = contest.serve(6)
        assert first == 'm'     # it was alone when it came
        assert ''.join(turns) == 'zzzza'
        contest.put('z')
        # The next one was dispatched when there was no z.
        assert ''.join(contest.serve(9)) == 'azaammm'

    def test_rr_takes_turns_whatever_the_weights(self, hand, level):
        contest = Contest(hand, level, 'rr', {'a': 100, 'b': 1, 'c': 0.01})
        for who in 'abc':
            contest.put(who, 21)
        turns = contest.serve(60)
        assert all(set(turns[i:i + 3]) == set('abc') for i in range(1, 58))

    @pytest.mark.parametrize('algorithm', ['wrr', 'dwrr'])
    def test_weights_2_4_1_are_turns_in_every_round(self, hand, level, algorithm):
        """For dwrr where tasks take the same time."""
        contest = Contest(hand, level, algorithm, {'a': 2, 'b': 4, 'c': 1})
        for who in 'abc':
            contest.put(who, 90)
        turns = contest.serve(141)[1:]
        assert all(Counter(turns[i:i + 7]) == {'a': 2, 'b': 4, 'c': 1} for i in range(134))
        assert longest_block(turns, 'b') <= 2 and longest_block(turns, 'a') == longest_block(turns, 'c') == 1

    def test_dwrr_counts_the_seconds_not_the_turns(self, hand, level):
        contest = Contest(hand, level, 'dwrr', {'long': 1, 'short': 1}, {'long': 4.0, 'short': 1.0})
        contest.put('long', 100)
        contest.put('short', 300)
        turns = contest.serve(250)
        assert turns.count('short') / turns.count('long') == pytest.approx(4, rel=0.03)
        # One whose tasks are long gets a turn as soon as the other has had as much, not a block of them.
        assert longest_block(turns[10:], 'long') == 1 and longest_block(turns[10:], 'short') <= 5


def test_pq_serves_those_that_are_not_declared_last_turn_by_turn(hand):
    hand.configure(QoS('pq', tenants={'first': Tenant(), 'second': Tenant()}))
    for tenant in 'x', 'y', 'second', 'first':
        fill(hand, [(tenant, 3)])
    hand.hire()
    assert hand.serve(12) == ['first'] * 3 + ['second'] * 3 + ['x', 'y'] * 3


@every_fair_one
@every_level
class TestComingAndGoing:
    def test_newcomers_are_next_whatever_the_others_backlog(self, hand, algorithm, level):
        contest = Contest(hand, level, algorithm, dict.fromkeys('ab', 1))
        contest.put('a', 300)
        contest.serve(100)
        contest.put('b', 10)
        assert contest.serve(3).count('b') >= 1

    def test_one_that_was_idle_has_saved_no_turns_and_lost_none(self, hand, algorithm, level):
        contest = Contest(hand, level, algorithm, dict.fromkeys('ab', 1))
        contest.put('a', 400)
        contest.put('b', 20)
        contest.serve(140)     # b's 20 are done, then a is alone

        contest.put('b', 150)

        turns = contest.serve(200)
        assert 96 <= turns.count('b') <= 104
        assert all(0.48 <= turns[:upto].count('b') / upto <= 0.52 for upto in range(50, 200))
        assert longest_block(turns, 'b') <= 2 and longest_block(turns, 'a') <= 2

    def test_those_that_drain_and_return_steal_no_turns(self, hand, algorithm, level):
        """Six equals, one backlogged and five that send their next task when the last one is done: 100 turns each."""
        contest = Contest(hand, level, algorithm, dict.fromkeys('bvwxyz', 1))
        contest.put('b', 600)
        for who in 'vwxyz':
            contest.put(who)
        turns = []
        for who in contest.turns():
            turns.append(who)
            if who != 'b':
                contest.put(who)
            if len(turns) == 600:
                break
        assert turns.count('b') >= 95
        assert all(95 <= turns.count(who) <= 105 for who in 'vwxyz')


@pytest.mark.parametrize('level', ['tenants', 'sub-queues'])
@pytest.mark.parametrize('weights, turns', [
    ({'gold': 200, 'bronze': 1}, 804),
    ({'gold': 60, 'silver': 60, 'bronze': 1}, 484),
    ({f'number {number}': 1 for number in range(120)}, 480),
    ({f'number {number}': number % 10 + 1 for number in range(120)}, 1320),
], ids=['200:1', '60:60:1', '120 equal', '120 of weights 1 to 10'])
def test_the_smallest_weight_waits_no_longer_than_the_others_turns(hand, level, weights, turns):
    contest = Contest(hand, level, 'wrr', weights)
    for who, weight in weights.items():
        contest.put(who, int(turns * weight / sum(weights.values())) + 2)
    served = contest.serve(turns)
    for who, weight in weights.items():
        others = sum(weights.values()) - weight
        # The turns that the others are entitled to for one of its own, and the one that each may have begun.
        assert longest_wait(served, who) <= others / weight + len(weights) - 1, who
        assert served.count(who) == pytest.approx(turns * weight / sum(weights.values()), abs=2), who


@every_fair_one
def test_fifty_equal_tenants_get_equal_shares(hand, algorithm):
    hand.configure(QoS(algorithm))
    backlog(hand, {f'tenant {number}': 1 for number in range(50)}, turns=1000)
    shares = Counter(hand.serve(1000))
    assert len(shares) == 50 and jain(shares.values()) >= 0.999


def test_equal_tenants_are_served_in_the_order_of_arrival_not_of_names(hand):
    for tenant in 'zmaqb':
        hand.put(tenant, times=3)
    hand.hire()
    assert ''.join(hand.serve(15)) == 'zmaqb' * 3


def test_nor_of_names_where_tags_are_so_great_that_little_differences_round_away(hand):
    hand.set_weight('slow', 1e-9)
    hand.put('slow', times=20)
    hand.hire()
    hand.serve(10)
    for tenant in 'zmaqb':
        hand.put(tenant, times=3)
    assert ''.join(hand.serve(17)).replace('slow', '') == 'zmaqb' * 3


def test_newcomers_while_others_are_served_too(hand):
    hand.put('m', times=10)
    hand.hire()
    hand.serve(3)
    for tenant in 'zya':
        hand.put(tenant)
    assert ''.join(hand.serve(6)).replace('m', '') == 'zya'


@every_fair_one
def test_finish_tags_of_tenants_that_come_once_do_not_pile_up(hand: Hand, algorithm):
    hand.configure(QoS(algorithm))
    hand.put('steady', times=200)
    hand.hire()
    for number in range(100):
        hand.put(f'once {number}')
        hand.serve(2)
        assert hand.redis.zcard(keys.finish(hand.ns)) <= 2
    assert hand.redis.hlen(keys.owing(hand.ns)) <= 1
    assert hand.serve(1) == ['steady']
