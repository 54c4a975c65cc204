"""Weighted round-robin is fair, smooth and starves nobody."""
from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from random import Random

import pytest

from celery_qos import keys
from celery_qos.config import QoS, Tenant
from tests.lua.hand import Hand, commands_of


def longest_block(turns: list[str], tenant: str) -> int:
    return max(len(list(group)) for name, group in groupby(turns) if name == tenant)


def longest_wait(turns: list[str], tenant: str) -> int:
    """Most turns between two of the tenant's own, the start and the end counted as its own."""
    places = [-1, *(place for place, name in enumerate(turns) if name == tenant), len(turns)]
    return max(later - earlier - 1 for earlier, later in pairwise(places))


def backlog(hand: Hand, weights: dict[str, float], turns: int) -> None:
    """Every tenant has enough waiting to be backlogged for all of `turns`."""
    for tenant, weight in weights.items():
        hand.set_weight(tenant, weight)
    for tenant, weight in weights.items():
        hand.put(tenant, times=int(turns * weight / sum(weights.values())) + 2)
    hand.hire()


def test_a_newcomer_is_next_whatever_the_others_backlog(hand):
    hand.put('a', times=1000)
    hand.hire(slots=4)

    hand.put('b')

    assert hand.serve(5) == ['a'] * 4 + ['b']


def test_weights_of_3_and_1_give_3_turns_to_1_in_no_block(hand):
    backlog(hand, {'a': 3, 'b': 1}, turns=400)
    turns = hand.serve(400)
    assert Counter(turns) == {'a': 300, 'b': 100}
    assert longest_block(turns, 'a') <= 4 and longest_block(turns, 'b') == 1
    assert all(2 <= turns[i:i + 4].count('a') <= 4 for i in range(397))


@pytest.mark.parametrize('weights, turns', [
    ({'gold': 200, 'bronze': 1}, 804),
    ({'gold': 60, 'silver': 60, 'bronze': 1}, 484),
    ({f'tenant {number}': 1 for number in range(120)}, 480),
], ids=['200:1', '60:60:1', '120 equal'])
def test_the_smallest_weight_is_not_starved(hand, weights, turns):
    backlog(hand, weights, turns)
    served = hand.serve(turns)
    smallest = min(weights.values())
    for tenant, weight in weights.items():
        others = sum(weights.values()) - weight
        # The turns that the others are entitled to for one of this tenant's, and the one that each may have begun.
        assert longest_wait(served, tenant) <= others / weight + len(weights), tenant
        share = turns * weight / (weight + others)
        assert served.count(tenant) == pytest.approx(share, abs=max(2, weight / smallest / 100))


def test_a_tenant_that_was_idle_has_saved_no_turns_and_lost_none(hand):
    hand.put('a', times=300)
    hand.put('b', times=20)
    hand.hire()
    hand.serve(140)     # b's 20 are done, then a is alone

    hand.put('b', times=100)

    turns = hand.serve(100)
    assert 49 <= turns.count('b') <= 51
    assert longest_block(turns, 'b') <= 2 and longest_block(turns, 'a') <= 2


def test_tenants_that_drain_and_return_steal_no_turns(hand):
    """Six equal tenants, one backlogged and five that send their next task when the last is done: 100 turns each."""
    hand.put('backlogged', times=600)
    for name in 'vwxyz':
        hand.put(name)
    hand.hire()
    turns = []
    for tenant in hand.turns():
        turns.append(tenant)
        if tenant != 'backlogged':
            hand.put(tenant)
        if len(turns) == 600:
            break
    assert turns.count('backlogged') >= 95
    assert all(95 <= turns.count(name) <= 105 for name in 'vwxyz')


class TestWeightAtRunTime:
    def test_acts_on_waiting_tasks(self, hand):
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.serve(20)

        hand.set_weight('a', 3)

        turns = hand.serve(80)
        assert 59 <= turns.count('a') <= 61

    def test_a_tenant_that_was_held_down_does_not_wait_out_its_old_weight(self, hand):
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.set_weight('a', 0.001)
        hand.serve(20)

        hand.set_weight('a', 1)

        turns = hand.serve(20)
        assert 9 <= turns.count('a') <= 11

    def test_nor_does_one_that_drained_meanwhile(self, hand):
        hand.set_weight('a', 0.001)
        hand.put('a')
        hand.put('b', times=100)
        hand.hire()
        hand.serve(10)

        hand.set_weight('a', 1)

        hand.put('a', times=20)
        assert 9 <= hand.serve(20).count('a') <= 11

    @pytest.mark.parametrize('before, after', [
        (QoS(tenants={'a': Tenant(0.001)}), QoS()),
        (QoS(tenants={'a': Tenant(0.001)}), QoS(tenants={'a': Tenant(1)})),
        (QoS(default_tenant=Tenant(0.001), tenants={'b': Tenant(1)}), QoS(tenants={'b': Tenant(1)}))])
    def test_so_does_a_new_config(self, hand, before, after):
        hand.configure(before)
        hand.put('a', times=50)
        hand.put('b', times=50)
        hand.hire()
        hand.serve(20)

        hand.configure(after)

        assert 9 <= hand.serve(20).count('a') <= 11

    def test_none_goes_back_to_the_config(self, hand):
        hand.configure(QoS(tenants={'a': Tenant(3)}))
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.serve(20)

        hand.set_weight('a', None)

        assert hand.weight('a') == 3
        assert 59 <= hand.serve(80).count('a') <= 61

    @pytest.mark.parametrize('junk', ['', 'heavy', '{', '[3]', '{"weight": "heavy"}', '{"weight": 0}', '{"weight": -1}', '{"weight": 1e999}'])
    def test_what_is_no_weight_counts_as_1(self, hand, junk):
        backlog(hand, {'a': 1, 'b': 1}, turns=40)
        hand.redis.hset(keys.settings(hand.ns), 'set:tenant:a', junk)
        turns = hand.serve(40)
        assert turns.count('a') == 20
        assert hand.state()['waiting'] == sum(hand.store.waiting(hand.queue).values())


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


@pytest.mark.parametrize('seed', range(6))
def test_the_bound_of_fairness_holds_in_every_interval(hand, seed):
    """|W_f/w_f - W_g/w_g| <= (D + 1) (1/w_f + 1/w_g), W: tasks settled, D: tasks delivered and unsettled.

    Jin, Chase, Kaur: Interposed proportional sharing for a storage service utility, SIGMETRICS 2004.
    """
    random = Random(seed)
    depth = random.choice([1, 2, 5, 16])
    weights = {tenant: random.choice([0.2, 1, 1, 2.5, 9]) for tenant in 'abcdef'}
    for tenant, weight in weights.items():
        hand.set_weight(tenant, weight)
    for tenant in weights:
        hand.put(tenant, times=random.randrange(10))
    hand.hire(slots=depth)
    held, service = [], dict.fromkeys(weights, 0)
    #: Pair of tenants to the least and the greatest difference of their service since both are backlogged.
    ranges: dict[tuple[str, str], tuple[float, float]] = {}
    tightest = 0.0
    for _ in range(300):
        if random.random() < 0.45:
            hand.put(random.choice('abcdef'), times=random.randrange(1, 6))
        held += hand.read()
        backlogged = hand.store.waiting(hand.queue)
        for f, g in ((f, g) for f in weights for g in weights if f < g):
            if f not in backlogged or g not in backlogged:
                ranges.pop((f, g), None)
                continue
            difference = service[f] / weights[f] - service[g] / weights[g]
            low, high = ranges.get((f, g), (difference, difference))
            low, high = ranges[f, g] = min(low, difference), max(high, difference)
            ratio = (high - low) / ((depth + 1) * (1 / weights[f] + 1 / weights[g]))
            assert ratio <= 1, (f, g)
            tightest = max(tightest, ratio)
        if held:
            done = held.pop(random.randrange(len(held)))
            hand.settle(done)
            service[done.fields[b'tenant'].decode()] += 1
    print(f'depth {depth}: the tightest interval used {tightest:.0%} of the bound')
    assert tightest > 0.1, 'the trace tests nothing'


def test_fifty_equal_tenants_get_equal_shares(hand):
    backlog(hand, {f'tenant {number}': 1 for number in range(50)}, turns=1000)
    shares = Counter(hand.serve(1000)).values()
    jain = sum(shares) ** 2 / (50 * sum(share ** 2 for share in shares))
    assert jain >= 0.999


def test_finish_tags_of_tenants_that_come_once_do_not_pile_up(hand):
    hand.put('steady', times=200)
    hand.hire()
    for number in range(100):
        hand.put(f'once {number}')
        hand.serve(2)
        assert hand.redis.zcard(keys.finish(hand.ns)) <= 2
    assert hand.serve(1) == ['steady']


def test_dispatch_costs_the_same_with_any_number_of_tenants(hand):
    """The number of commands; each is at most logarithmic in the backlogged tenants."""
    hand.hire()
    costs = []
    for tenants in 10, 1000:
        for number in range(tenants):
            hand.put(f'{tenants} {number}', times=2)
        read = hand.read(at_most=1)
        costs.append((commands_of(hand.redis, lambda: hand.put(f'{tenants} 0')),
                      commands_of(hand.redis, lambda: hand.settle(*read))))
    assert costs[0] == costs[1]
