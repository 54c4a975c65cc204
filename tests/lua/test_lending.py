"""Slots that would stay idle are lent to who is at the cap, whatever changes meanwhile."""
from __future__ import annotations

from celery_qos.config import QoS, SubQueue
from tests.lua.hand import Hand
from tests.until import until


def tenants_of(deliveries) -> list[str]:
    return [delivery.fields[b'tenant'].decode() for delivery in deliveries]


def two(hand: Hand, **options) -> None:
    """Sub-queues: `limited` has the options, `other` none. Four slots."""
    hand.configure(QoS(queues=[SubQueue('limited', 100, 1, **options), SubQueue('other', 100, 1)]))
    hand.hire(slots=4)


def pause(hand: Hand, of: str, paused: bool) -> None:
    hand.store.set(hand.queue, of, {'paused': paused})


def test_a_sub_queue_at_its_cap_borrows_for_a_tenant_that_is_paused_no_longer(hand):
    two(hand, max_in_flight=1, burst=1)
    hand.put('a', sub_queue='limited')
    hand.set_tenant('b', paused=True)
    hand.put('b', sub_queue='limited')
    assert tenants_of(hand.read()) == ['a']

    hand.set_tenant('b', paused=False)

    assert tenants_of(hand.read()) == ['b']


def test_it_borrows_for_a_tenant_that_comes_later_than_a_paused_one(hand):
    two(hand, max_in_flight=1, burst=1)
    hand.put('a', sub_queue='limited')
    hand.set_tenant('b', paused=True)
    hand.put('b', sub_queue='limited')
    hand.put('c', sub_queue='limited')
    assert tenants_of(hand.read()) == ['a', 'c']


def test_a_tenant_borrows_once_its_sub_queue_is_paused_no_longer(hand):
    two(hand)
    hand.set_tenant('a', max_in_flight=1, burst=1)
    hand.put('a', sub_queue='limited', times=3)
    first, _ = hand.read()
    pause(hand, 'sub:limited', True)
    hand.finish(first)
    assert hand.read() == []

    pause(hand, 'sub:limited', False)

    assert tenants_of(hand.read()) == ['a']


def test_a_tenant_borrows_once_the_sub_queue_is_below_its_cap(hand):
    two(hand, max_in_flight=2)
    hand.set_tenant('a', max_in_flight=1, burst=1)
    hand.put('a', sub_queue='limited')
    hand.put('b', sub_queue='limited')
    hand.put('a', sub_queue='limited')
    first, second = hand.read()
    assert tenants_of([first, second]) == ['a', 'b']

    hand.finish(second)

    assert tenants_of(hand.read()) == ['a']


def test_who_borrowed_least_over_all_sub_queues_is_next(hand):
    two(hand)
    hand.hire(slots=2)
    for tenant in 'ab':
        hand.set_tenant(tenant, max_in_flight=1, burst=3)
        hand.put(tenant, sub_queue='other')
    hand.read()
    for tenant, sub_queue in ('a', 'other'), ('b', 'other'), ('b', 'limited'):
        hand.put(tenant, sub_queue=sub_queue, times=3)

    hand.hire(slots=6)

    assert sorted(tenants_of(hand.read())) == ['a', 'a', 'b', 'b']


def test_it_borrows_when_its_token_is_there(hand):
    hand.set_tenant('a', max_in_flight=1, burst=1, rate=5)
    hand.hire(slots=2)
    hand.put('a', times=2)
    assert len(hand.read()) == 1
    assert hand.store.sweep(hand.queue, 600, 'sweeper').due_ms <= 200

    def borrowed():
        hand.sweep()
        return hand.read()
    until(borrowed)
