"""Tenants inside tenants: who splits its load over many keys gains nothing."""
from __future__ import annotations

from collections import Counter

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.keys import PART
from celery_qos.path import path_of
from tests.lua.simulation import Simulation
from tests.lua.turns import fill, jain, longest_block

pytestmark = pytest.mark.once

every_fair_one = pytest.mark.parametrize('algorithm', ['rr', 'wrr', 'dwrr'])


def first(turns: list[str], upto: int = 1) -> Counter[str]:
    """How many turns each had, by the first so many keys of its path."""
    return Counter(PART.join(path.split(PART)[:upto]) for path in turns)


@every_fair_one
@pytest.mark.parametrize('sub_queue', ['', 'x'])
def test_100_users_get_no_more_than_one(hand, algorithm, sub_queue):
    subs = [SubQueue(name, 10_000, 1, algorithm=algorithm) for name in 'xy'] if sub_queue else []
    hand.configure(QoS(algorithm, subs))
    fill(hand, [(path_of(('acme', f'user {number}')), 5) for number in range(100)], sub_queue)
    fill(hand, [('bob', 500)], sub_queue)
    hand.hire()

    turns = hand.serve(800)

    assert first(turns)['bob'] == pytest.approx(400, abs=2)
    assert longest_block(turns, 'bob') <= 2
    users = first(turns, upto=2)
    del users['bob']
    assert len(users) == 100 and jain(users.values()) >= 0.999
    assert set(users.values()) <= {3, 4, 5}


def test_keys_of_three_parts_are_shared_level_by_level(hand):
    fill(hand, [('bob', 200)])
    fill(hand, [(path_of(('acme', 'sales')), 200)])
    fill(hand, [(path_of(('acme', 'ops', f'user {number}')), 20) for number in range(10)])
    hand.hire()

    turns = hand.serve(400)

    assert first(turns)['acme'] == pytest.approx(200, abs=2)
    halves = first(turns, upto=2)
    assert halves[path_of(('acme', 'sales'))] == pytest.approx(100, abs=2)
    assert halves[path_of(('acme', 'ops'))] == pytest.approx(100, abs=2)
    users = first(turns, upto=3)
    assert all(9 <= users[path_of(('acme', 'ops', f'user {number}'))] <= 11 for number in range(10))


def test_weights_hold_among_siblings(hand):
    hand.configure(QoS(tenants={'acme': Tenant(2), ('acme', 'boss'): Tenant(3), ('acme', 'clerk'): Tenant(1)}))
    fill(hand, [('bob', 200), (path_of(('acme', 'boss')), 300), (path_of(('acme', 'clerk')), 200)])
    hand.hire()
    turns = Counter(hand.serve(300))
    assert turns['bob'] == pytest.approx(100, abs=2)
    assert turns[path_of(('acme', 'boss'))] == pytest.approx(150, abs=2)
    assert turns[path_of(('acme', 'clerk'))] == pytest.approx(50, abs=2)


def test_the_weight_of_a_default_tenant_is_not_that_of_those_inside(hand):
    hand.configure(QoS(default_tenant=Tenant(5), tenants={'bob': Tenant(5), ('acme', 'heavy'): Tenant(3)}))
    fill(hand, [('bob', 100), (path_of(('acme', 'heavy')), 100), (path_of(('acme', 'plain')), 100)])
    hand.hire()
    turns = Counter(hand.serve(160))
    assert turns['bob'] == pytest.approx(80, abs=2)
    assert turns[path_of(('acme', 'heavy'))] == pytest.approx(60, abs=2)


@every_fair_one
@pytest.mark.parametrize('plain_first', [True, False])
def test_plain_and_split_keys_at_once_gain_nothing(hand, algorithm, plain_first):
    hand.configure(QoS(algorithm))
    split = [(path_of(('acme', user)), 100) for user in ('x', 'y')]
    fill(hand, [('bob', 300)])
    fill(hand, [('acme', 100), *split] if plain_first else [*split, ('acme', 100)])
    hand.hire()

    turns = hand.serve(400)

    assert first(turns)['bob'] == pytest.approx(200, abs=2)
    # The plain tasks are one more child of acme.
    served = Counter(turns)
    assert all(served[path] == pytest.approx(67, abs=2) for path in ('acme', *(path for path, _ in split)))


def test_plain_tasks_keep_their_order_when_users_come_in_between(hand):
    hand.put('acme', times=3)
    hand.put(path_of(('acme', 'x')), times=3)
    hand.put('acme', times=3)
    hand.hire()
    numbers = []
    while read := hand.read():
        if read[0].fields[b'tenant'] == b'acme':
            numbers.append(int(read[0].fields[b'number']))
        hand.finish(*read)
    assert numbers == [1, 2, 3, 7, 8, 9]


def test_users_that_take_turns_to_be_busy_do_not_reset_what_their_tenant_owes(hand):
    fill(hand, [('bob', 200)])
    hand.hire()
    turns = []
    user = 0
    hand.put(path_of(('acme', f'user {user}')))
    for tenant in hand.turns():
        turns.append(tenant)
        if tenant != 'bob':
            user += 1
            hand.put(path_of(('acme', f'user {user}')))
        if len(turns) == 200:
            break
    assert first(turns)['bob'] == pytest.approx(100, abs=5)


@pytest.mark.parametrize('early', [False, True], ids=['late', 'early'])
def test_users_are_fair_by_time_too(hand, early):
    seconds = {'bob': 0.1, path_of(('acme', 'long')): 0.3, path_of(('acme', 'short')): 0.02}
    hand.configure(QoS('dwrr'))
    fill(hand, [(path, int(40 / each)) for path, each in seconds.items() if each > 0.05])
    fill(hand, [(path_of(('acme', 'short')), 700)])
    service = Simulation(hand, seconds.__getitem__, 2, early=early).run(20)
    assert service['bob'] == pytest.approx(20, abs=1)
    assert service[path_of(('acme', 'long'))] == pytest.approx(10, abs=1)


def test_limits_hold_at_every_level(hand):
    hand.configure(QoS(tenants={'acme': Tenant(max_in_flight=3), ('acme', 'x'): Tenant(max_in_flight=1)}))
    for path in 'bob', path_of(('acme', 'x')), path_of(('acme', 'y')):
        fill(hand, [(path, 20)])
    hand.hire(slots=10)
    held = hand.read()
    for turn in range(12):
        counts = Counter(delivery.fields[b'tenant'].decode() for delivery in held)
        assert len(held) == 10
        assert counts[path_of(('acme', 'x'))] <= 1
        assert 2 <= 10 - counts['bob'] <= 3
        hand.finish(held.pop(turn % len(held)))
        held += hand.read()
    hand.set_tenant('acme', paused=True)
    hand.finish(*held)
    assert {delivery.fields[b'tenant'] for delivery in hand.read()} == {b'bob'}


def test_nothing_is_left_of_inner_tenants_when_they_are_done(hand):
    hand.hire(slots=2)
    for path in 'acme', path_of(('acme', 'x')), path_of(('acme', 'x', '1')), 'bob':
        fill(hand, [(path, 4)])
    while read := hand.read():
        hand.finish(*read)
    left = hand.all_keys()
    assert not [key for key in left if key.startswith(('ready', 'finish', 'owing', 'tenant', 'waiting'))], left
    assert not [name for name in hand.redis.hkeys(keys.state(hand.ns)) if name.startswith((b'vtime', b'newest'))]
