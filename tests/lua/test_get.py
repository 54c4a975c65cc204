"""basic_get: one task, without waiting, in a slot that the getter brings."""
from __future__ import annotations


def get(hand, consumer='g', slots=1):
    delivery = hand.store.get(hand.queue, consumer, slots, 600)
    return delivery and int(delivery.fields[b'number'])


def test_delivers_the_next_task(hand):
    hand.put('a', times=2)
    assert get(hand) == 1
    assert hand.egress()[0].owner == 'g'
    assert hand.waiting('a') == [2]
    assert hand.state()['slots'] == 1


def test_again_with_one_slot_more(hand):
    hand.put('a', times=2)
    assert [get(hand, slots=slots) for slots in (1, 2, 3)] == [1, 2, None]
    assert hand.state()['slots'] == 2


def test_an_empty_queue_leaves_no_trace(hand):
    assert get(hand) is None
    assert not hand.redis.keys()


def test_finds_nothing_where_all_is_delivered(hand):
    hand.hire()
    hand.put('a')
    hand.read()
    assert get(hand) is None
    assert hand.state()['slots'] == 1
    assert hand.consumers() == {'w'}


def test_takes_its_turn_after_what_is_in_egress(hand):
    hand.hire()
    hand.put('a', times=2)
    assert get(hand) == 1
    assert [int(delivery.fields[b'number']) for delivery in hand.read()] == [2]


def test_is_held_under_a_lease(hand):
    hand.put('a')
    get(hand)
    hand.end_lease('g')
    hand.sweep()
    assert [entry[1:] for entry in hand.egress()] == [(1, None, True, 1)]


def test_settled_it_leaves_nothing(hand):
    hand.put('a')
    delivery = hand.store.get(hand.queue, 'g', 1, 600)
    hand.settle(delivery)
    hand.hire('g', slots=0)
    assert not hand.redis.keys()


def test_slots_that_its_lease_lost_come_back_with_a_lease(hand):
    hand.hire('g', slots=2)
    hand.end_lease('g')
    hand.sweep()

    assert get(hand, slots=3) is None

    assert hand.state()['slots'] == 2
    hand.end_lease('g')
    assert [recovery.consumer for recovery in hand.sweep()] == ['g']
    assert not hand.redis.keys()
