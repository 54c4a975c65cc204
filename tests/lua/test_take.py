"""Delivery from several queues without waiting."""
from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from celery_qos import keys
from tests.lua.hand import Hand


@pytest.fixture
def pair(store) -> tuple[Hand, Hand]:
    hands = Hand(store, 'one'), Hand(store, 'other')
    for hand in hands:
        hand.hire(slots=3)
        hand.put('a', times=3)
    return hands


@pytest.mark.parametrize('at_most, expected', [
    (1, ['one 1']),
    (4, ['one 1', 'one 2', 'one 3', 'other 1']),
    (9, ['one 1', 'one 2', 'one 3', 'other 1', 'other 2', 'other 3'])])
def test_counts_in_all_and_not_per_queue(store, pair, at_most, expected):
    taken = store.take(['one', 'other'], 'w', at_most)
    assert [f'{delivery.queue} {delivery.fields[b"number"].decode()}' for delivery in taken] == expected


def test_nothing_there(store, pair):
    store.take(['one', 'other'], 'w', 9)
    assert store.take(['one', 'other'], 'w', 9) == []


def test_what_was_delivered_is_not_lost_where_a_later_queue_has_no_group(store, pair):
    store.client.xgroup_destroy(keys.egress(pair[1].ns), keys.GROUP)
    assert len(store.take(['one', 'other'], 'w', 9)) == 3
    with pytest.raises(ResponseError, match='NOGROUP'):
        store.take(['one', 'other'], 'w', 9)


def test_the_blocking_read_of_several_queues(store, pair):
    hand = pair[0]
    hand.reader.connection.send_command(*store.read_command(['one', 'other'], 'w', 2, 1000))
    read = store.parse_read(['one', 'other'], hand.reader.connection.read_response())
    assert [delivery.queue for delivery in read] == ['one', 'one', 'other', 'other']


def test_waiting_takes_nothing(store, pair):
    hand = pair[0]
    hand.reader.connection.send_command(*store.wait_command({('one', 0): '0-0'}, 1000))
    seen = store.parse_read(['one'], hand.reader.connection.read_response())
    assert [int(delivery.fields[b'number']) for delivery in seen] == [1]
    assert hand.egress()[0].owner is None
