"""What is counted, by the script that does it, for who watches the queue."""
from __future__ import annotations

from celery_qos import keys
from celery_qos.config import QoS, SubQueue
from celery_qos.look import Look
from celery_qos.observe.counts import counts_by_sub_queue, counts_of

from .hand import Hand


def found(hand: Hand, *sub_queues: str) -> dict[tuple[str, str], int]:
    """What is not 0."""
    counts = counts_by_sub_queue(Look(hand.store), hand.queue, sub_queues)
    return {each: number for each, number in counts.items() if number}


def test_nothing_has_happened(hand):
    hand.configure(QoS())

    assert set(counts_of(Look(hand.store), hand.queue, []).values()) == {0}


def test_a_delivery_that_fails(hand):
    hand.configure(QoS(max_deliveries=2))
    hand.hire()
    hand.put()
    hand.requeue(*hand.read())
    assert found(hand) == {('redelivered', ''): 1}

    hand.requeue(*hand.read())

    assert found(hand) == {('redelivered', ''): 1, ('dead-delivered', ''): 1}


def test_a_lease_that_ends_and_one_that_is_given_up(hand):
    hand.configure(QoS())
    hand.hire('gone', slots=2, seconds=0)
    hand.put(times=2)
    assert len(hand.read('gone')) == 2
    hand.hire('well')
    hand.store.sweep(hand.queue, 60, 'well')
    assert found(hand) == {('redelivered', ''): 2, ('recovered', ''): 1}

    hand.store.release(hand.queue, 'well')

    assert found(hand) == {('redelivered', ''): 2, ('recovered', ''): 1}


def test_dead_letters_by_reason(hand):
    hand.configure(QoS())
    hand.hire(slots=4)
    hand.put(times=4)
    for delivery, reason in zip(hand.read(), ['rejected', 'malformed: it has no id', 'delivered 3 times', 'by hand']):
        hand.store.bury(hand.queue, [delivery.entry_id], reason)

    assert found(hand) == {(f'dead-{kind}', ''): 1 for kind in ('rejected', 'malformed', 'delivered', 'other')}
    assert counts_of(Look(hand.store), hand.queue, [])['dead'] == 4


def test_who_is_held_back_is_counted_once_until_it_is_served(hand):
    hand.configure(QoS())
    hand.set_tenant('a', paused=True)
    hand.hire()
    hand.put('a', times=3)
    hand.store.sweep(hand.queue, 60, 'w')
    assert found(hand) == {('throttled', ''): 1}

    hand.set_tenant('a', paused=False)
    hand.set_tenant('a', paused=True)
    hand.settle(*hand.read())

    assert found(hand) == {('throttled', ''): 2}


def test_tasks_that_expire_or_are_revoked(hand):
    hand.configure(QoS())
    hand.store.enqueue(hand.queue, 'a', 0, {'expires': '1', 'tenant': 'a'})
    hand.put(task_id='x', due_ms=2 ** 42)
    hand.store.cancel(hand.queue, ['x'])

    assert found(hand) == {('expired', ''): 1, ('revoked', ''): 1}


def test_by_sub_queue(hand):
    hand.configure(QoS(queues=[SubQueue('x', 1, 1, on_full='dead-letter'), SubQueue('y', 1, 1, paused=True)]))
    hand.put(times=2, sub_queue='x')
    hand.put(sub_queue='y')
    hand.hire(slots=2)
    delivery, = hand.read()
    hand.requeue(delivery)

    assert found(hand, 'x', 'y') == {
        ('dead-letter', 'x'): 1, ('dead-full', 'x'): 1, ('throttled', 'y'): 1, ('redelivered', 'x'): 1}


def test_a_sub_queue_that_somebody_made_up_counts_for_the_queue(hand):
    hand.configure(QoS())
    hand.hire()
    hand.redis.xadd(keys.egress(hand.ns), {'sub': 'made up', 'tenant': 'a'})
    delivery, = hand.read()
    hand.requeue(delivery)

    assert found(hand, 'made up') == {('redelivered', ''): 1}


def test_a_queue_that_was_deleted_stays_so(hand):
    hand.hire(seconds=0)
    hand.put()
    hand.read()
    hand.store.sweep(hand.queue, 60, 'other')

    assert not hand.redis.exists(keys.settings(hand.ns))


def test_another_config_and_idleness_change_no_count(hand):
    hand.configure(QoS())
    hand.hire()
    hand.put()
    hand.requeue(*hand.read())
    hand.settle(*hand.read())
    hand.store.release(hand.queue, 'w')
    hand.configure(QoS('rr'))

    assert hand.all_keys() == {'settings'}
    assert found(hand) == {('redelivered', ''): 1}
    assert hand.store.counters(hand.queue) == {}
