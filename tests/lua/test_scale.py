"""The work of one dispatch does not grow with the number of tenants; ``python -m tests.scale`` measures its time."""
from __future__ import annotations

import os

import pytest

from celery_qos import keys
from celery_qos.config import ALGORITHMS, QoS, SubQueue, Tenant
from tests.lua.hand import Hand, commands_of
from tests.lua.turns import fill
from tests.scale import costs

#: To measure the time too: numbers of tenants, such as "10 100000 1000000"; these take minutes, and 5 KB of memory each
TENANTS = os.environ.get('SCALE_TENANTS', '')
MOST_GROWTH = 1.5


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_any_number_of_backlogged_tenants(store, algorithm, record_property):
    found = []
    for tenants in map(int, (TENANTS or '10 3000').split()):
        store.client.flushall()
        found.append(costs(Hand(store), tenants, algorithm, *() if TENANTS else (100, 2)))
        print(f'{algorithm}, {tenants} tenants: {found[-1]}')
    for act, cost in found[0].items():
        # Exact: each command is at most logarithmic in the number of tenants.
        assert [each[act].commands for each in found] == [cost.commands] * len(found)
        record_property(act, growth := max(each[act].micros for each in found) / cost.micros)
        # On a machine that does other things, only many acts tell.
        assert not TENANTS or growth <= MOST_GROWTH


def shape(hand: Hand, kind: str, count: int) -> None:
    """So many backlogged ones of a kind, and two tenants beside them."""
    if kind == 'inner tenants':
        fill(hand, ((f'outer\x1f{number}', 2) for number in range(count)))
    elif kind == 'sub-queues':
        hand.configure(QoS(queues=[SubQueue(f's{number}', 1000, 1) for number in range(count)]))
        for number in range(count):
            fill(hand, [('tenant', 2)], f's{number}')
    elif kind == 'paused tenants':
        hand.configure(QoS(default_tenant=Tenant(paused=True), tenants={'a': Tenant(), 'b': Tenant()}))
        fill(hand, ((f'paused {number}', 2) for number in range(count)))
    else:
        # They had their turn and are gone.
        hand.hire(slots=2)
        for number in range(count):
            hand.put(f'idle {number}')
            hand.finish(*hand.read())
        hand.hire(slots=1)


@pytest.mark.parametrize('kind', ['inner tenants', 'sub-queues', 'paused tenants', 'idle tenants'])
def test_so_for_others(hand, kind):
    found = []
    for count in 10, 500:
        hand.redis.flushall()
        shape(hand, kind, count)
        sub_queue = 's1' if kind == 'sub-queues' else ''
        fill(hand, [('a', 20), ('b', 20)], sub_queue)
        hand.hire(slots=1)
        hand.finish(*hand.read())
        read = hand.read()
        found.append((commands_of(hand.redis, lambda: hand.put('a', sub_queue=sub_queue)),
                      commands_of(hand.redis, lambda read=read: hand.finish(*read))))
    assert found[0] == found[1]


def test_idle_tenants_cost_no_memory(hand):
    hand.hire(slots=2)
    hand.put('busy', times=1000)
    before = hand.redis.memory_usage(keys.finish(hand.ns)) or 0
    for number in range(500):
        hand.put(f'idle {number}')
        hand.finish(*hand.read())
    assert (hand.redis.memory_usage(keys.finish(hand.ns)) or 0) <= before + 500
    assert not [key for key in hand.all_keys() if 'idle' in key]


def test_the_end_of_a_task_does_not_look_at_each_sub_queue_for_a_cap(hand):
    hand.configure(QoS(queues=[SubQueue(f's{i}', 100, 1) for i in range(300)], tenants={'a': Tenant(max_in_flight=2)}))
    hand.put('a', times=20, sub_queue='s0')
    hand.hire(slots=2)
    tasks = hand.read()
    assert commands_of(hand.redis, lambda: hand.finish(*tasks)).total() < 150
