"""Acks: the task goes, its slot is the next one's."""
from __future__ import annotations

from tests.lua.hand import Hand


def test_the_slot_goes_to_the_next_task_at_once(hand):
    hand.hire(slots=2)
    hand.put('a', times=4)
    first, _ = hand.read()
    assert hand.settle(first) == 1
    assert hand.in_egress() == [2, 3]


def test_tasks_may_be_settled_in_any_order_and_together(hand):
    hand.hire(slots=3)
    hand.put('a', times=6)
    first, _, third = hand.read()
    assert hand.settle(third, first) == 2
    assert hand.in_egress() == [2, 4, 5]


def test_twice_changes_nothing(hand):
    hand.hire(slots=1)
    hand.put('a', times=3)
    first, = hand.read()
    assert hand.settle(first, first) == 1
    before = hand.egress()
    assert hand.settle(first) == 0
    assert hand.egress() == before
    assert hand.waiting('a') == [3]


def test_a_zombies_settle_changes_nothing(hand):
    """Its lease ended and another worker has the task now."""
    hand.hire('zombie')
    hand.put('a', times=2)
    task, = hand.read('zombie')
    hand.end_lease('zombie')
    hand.hire('w')
    hand.sweep()
    hand.read('w')
    before = hand.egress()

    assert hand.settle(task) == 0

    assert hand.egress() == before
    assert [entry[1:] for entry in before] == [(2, 'w', False, 0), (1, 'w', True, 1)]


def test_more_than_a_call_can_carry(hand):
    hand.hire(slots=2500)
    hand.put('a', times=2500)
    assert hand.settle(*hand.read(at_most=2500)) == 2500
    assert hand.in_egress() == []


def test_nothing_to_settle(hand):
    assert hand.settle() == 0
    assert hand.store.settle('no such queue', ['1-1']) == 0
    assert not hand.redis.keys()


def test_the_last_task_of_a_queue_without_workers_leaves_settings_only(store):
    hand = Hand(store)
    store.declare(hand.queue)
    hand.hire('leaves')
    hand.put('a')
    task, = hand.read('leaves')
    hand.hire('leaves', slots=0)
    assert hand.settle(task) == 1
    assert hand.hire('leaves', slots=0) == (False, 0)
    assert hand.all_keys() == {'settings'}


def test_the_last_task_of_a_reader_without_lease_leaves_nothing(hand):
    hand.hire('late')
    hand.put('a')
    hand.end_lease('late')
    hand.sweep()
    task, = hand.read('late')
    assert hand.settle(task) == 1
    assert not hand.redis.keys()
