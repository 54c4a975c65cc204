"""Tasks that go back into egress: rejected, or sent to a worker that lost them."""
from __future__ import annotations

import pytest


@pytest.mark.parametrize('counted, failures', [(True, [1, 2, 3]), (False, [0, 0, 0])])
def test_is_marked_and_counted(hand, counted, failures):
    hand.hire()
    hand.put('a')
    seen = []
    for _ in failures:
        assert hand.requeue(*hand.read(), counted=counted) == 1
        entry, = hand.egress()
        assert entry.redelivered and entry.owner is None
        seen.append(entry.failures)
    assert seen == failures


def test_keeps_its_fields_and_when_it_was_published(store):
    store.enqueue('q', 'a', 0, {'body': 'x', 'headers': '{}'})
    store.lease('q', 'w', 1, 600)
    before, = store.take(['q'], 'w', 1)
    for _ in range(2):
        store.requeue('q', [before.entry_id], True)
        after, = store.take(['q'], 'w', 1)
        store.requeue('q', [after.entry_id], True)
        before, = store.take(['q'], 'w', 1)
    assert before.fields == {b'body': b'x', b'headers': b'{}', b'enqueued': before.fields[b'enqueued'],
                             b'redelivered': b'1', b'deliveries': b'4'}
    assert before.fields[b'enqueued'] < after.entry_id.encode()


def test_a_task_that_never_waited_gets_the_time_of_its_first_delivery(hand):
    hand.hire()
    hand.put('a')
    first, = hand.read()
    hand.requeue(first)
    again, = hand.read()
    assert again.fields[b'enqueued'].decode() == first.entry_id


def test_takes_no_further_slot(hand):
    hand.hire(slots=2)
    hand.put('a', times=3)
    first, _ = hand.read()
    hand.requeue(first)
    assert hand.in_egress() == [2, 1]
    assert hand.waiting('a') == [3]


def test_what_was_settled_or_requeued_before_stays_so(hand):
    hand.hire(slots=2)
    hand.put('a', times=2)
    first, second = hand.read()
    hand.settle(first)
    assert hand.requeue(first, second, second) == 1
    assert hand.requeue(first, second) == 0
    assert hand.in_egress() == [2]


def test_is_not_charged_again(hand):
    """Else a tenant whose tasks fail would lose turns to nobody's gain."""
    hand.put('a', times=20)
    hand.put('b', times=20)
    hand.hire()
    order = []
    for delivery in iter(lambda: (hand.read() or [None])[0], None):
        if delivery.fields[b'tenant'] == b'a' and b'redelivered' not in delivery.fields:
            hand.requeue(delivery)
        else:
            order.append(delivery.fields[b'tenant'].decode())
            hand.settle(delivery)
    assert ''.join(order) == 'ab' * 20


class TestReclaim:
    def test_what_the_consumer_does_not_hold_is_delivered_again(self, hand):
        hand.hire(slots=3)
        hand.put('a', times=3)
        _, second, _ = hand.read()
        assert hand.store.reclaim(hand.queue, 'w', [second.entry_id]) == 2
        assert [entry[1:] for entry in hand.egress()] == [
            (2, 'w', False, 0), (1, None, True, 0), (3, None, True, 0)]

    def test_leaves_other_consumers_alone(self, hand):
        hand.hire('v')
        hand.put('a')
        hand.read('v')
        assert hand.store.reclaim(hand.queue, 'w', []) == 0
        assert hand.egress()[0].owner == 'v'

    def test_many(self, hand):
        hand.hire(slots=350)
        hand.put('a', times=350)
        read = hand.read()
        held = {delivery.entry_id for delivery in read[::7]}
        assert hand.store.reclaim(hand.queue, 'w', held) == 300
        assert sum(entry.owner == 'w' for entry in hand.egress()) == 50

    def test_of_nothing(self, hand):
        assert hand.store.reclaim('no such queue', 'w', ['1-1']) == 0
