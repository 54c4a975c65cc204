"""How many tasks nobody holds yet."""
from __future__ import annotations

from tests.lua.hand import commands_of


def test_counts_what_no_worker_holds(hand):
    hand.hire(slots=3)
    hand.put('a', times=4)
    hand.put('b', times=2)
    assert hand.store.size(hand.queue) == 6
    read = hand.read(at_most=2)
    assert hand.store.size(hand.queue) == 4
    hand.settle(read[0])
    assert hand.store.size(hand.queue) == 4
    hand.requeue(read[1])
    assert hand.store.size(hand.queue) == 5


def test_tells_an_empty_queue_from_none(hand):
    assert hand.store.size(hand.queue) is None
    hand.store.declare(hand.queue)
    assert hand.store.size(hand.queue) == 0


def test_an_undeclared_queue_with_tasks_is_one(hand):
    hand.put('a')
    assert hand.store.size(hand.queue) == 1


def test_costs_the_same_with_any_number_of_tenants(hand):
    hand.hire(slots=2)
    costs = []
    for tenants in 10, 1000:
        for number in range(tenants):
            hand.put(f't{number}')
        costs.append(commands_of(hand.redis, lambda: hand.store.size(hand.queue)))
    assert costs[0] == costs[1]
    assert sum(costs[0].values()) <= 8
