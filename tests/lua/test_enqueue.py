"""Publishing and dispatch."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.errors import SchemaMismatch
from tests.lua.hand import Hand, commands_of


def test_a_task_goes_straight_to_a_free_slot(hand):
    hand.hire(slots=1)
    hand.put('a')
    assert hand.in_egress() == [1]
    assert hand.all_keys() == {'egress', 'leases', 'slots', 'state'}


def test_a_task_waits_in_its_tenants_stream_where_no_slot_is_free(hand):
    hand.hire(slots=1)
    hand.put('a', times=3)
    hand.put('b')
    assert hand.in_egress() == [1]
    assert hand.waiting('a') == [2, 3]
    assert hand.waiting('b') == [4]
    assert hand.store.waiting(hand.queue) == {'a': 2, 'b': 1}


def test_says_whether_the_task_waits(store):
    store.lease('q', 'w', 1, 600)
    assert store.enqueue('q', 'a', 5, {'number': '1'}) == 'egress'
    assert store.enqueue('q', 'a', 5, {'number': '2'}) == 'waits'


def test_nothing_is_dispatched_without_workers(hand):
    hand.put('a', times=3)
    assert hand.in_egress() == []
    assert hand.waiting('a') == [1, 2, 3]


def test_egress_holds_no_more_than_there_are_slots(hand):
    hand.hire('v', slots=2)
    hand.hire('w', slots=3)
    hand.put('a', times=100)
    assert hand.in_egress() == [1, 2, 3, 4, 5]


def test_first_in_first_out_inside_a_tenant(hand):
    hand.put('a', times=50)
    hand.hire(slots=7)
    served = []
    while read := hand.read():
        served += [int(delivery.fields[b'number']) for delivery in read]
        hand.settle(*read)
    assert served == list(range(1, 51))


def test_0_is_the_highest_priority_inside_a_tenant(hand):
    for priority in (9, 5, 0, 5, 0):
        hand.put('a', priority=priority)
    hand.hire(slots=5)
    assert hand.in_egress() == [3, 5, 2, 4, 1]


def test_a_priority_overtakes_no_other_tenant(hand):
    hand.put('a', times=2, priority=9)
    hand.put('b', times=2, priority=0)
    hand.hire(slots=4)
    assert hand.in_egress() == [1, 3, 2, 4]


def test_the_fields_arrive_as_they_were_sent(store):
    fields = {'body': b'\x00\xff\r\n', 'headers': '{"ä": 1}', 'empty': ''}
    store.enqueue('q', 'a', 0, fields)
    store.lease('q', 'w', 1, 600)
    delivery, = store.take(['q'], 'w', 1)
    assert delivery.fields.pop(b'enqueued')
    assert delivery.fields == {b'body': b'\x00\xff\r\n', b'headers': '{"ä": 1}'.encode(), b'empty': b''}


def test_a_task_that_waited_says_since_when(hand):
    hand.put('a')
    (entry_id, _), = hand.redis.xrange(keys.tenant_stream(hand.ns, 'a', 5))
    hand.hire()
    delivery, = hand.read()
    assert delivery.fields[b'enqueued'] == entry_id


@pytest.mark.parametrize('act', ['enqueue', 'enqueue and wait', 'settle'])
def test_the_number_of_commands_does_not_grow_with_the_tenants(hand, act):
    costs = []
    for tenants in 10, 1000:
        hand.redis.flushall()
        hand.hire(slots=5)
        for number in range(tenants):
            hand.put(f't{number}', times=2)
        read = hand.read(at_most=1)
        if act == 'enqueue':
            hand.hire('more', slots=2 * tenants + 10)
        costs.append(commands_of(hand.redis, lambda: hand.settle(*read) if act == 'settle' else hand.put('t1')))
    assert costs[0] == costs[1]


def test_idle_tenants_cost_nothing(hand):
    hand.hire(slots=1)
    for number in range(100):
        hand.put(f't{number}')
        hand.settle(*hand.read())
    assert hand.all_keys() == {'egress', 'leases', 'slots', 'state'}


@pytest.mark.parametrize('tenant', [
    '', 'ä', '日本', '{', '}', '{x}', 'a b', ':', '0:a', 'a\n', '*', '%s', '[a-z]', 'x' * 255, '🦊'])
def test_any_tenant_key_is_a_tenant_of_its_own(hand, tenant):
    hand.put('plain', times=2)
    hand.put(tenant, times=2)
    hand.set_weight(tenant, 2)
    assert hand.store.waiting(hand.queue) == {'plain': 2, tenant: 2}
    assert hand.weight(tenant) == 2
    hand.hire()
    assert sorted(hand.serve(4)) == sorted(['plain', tenant] * 2)
    hand.store.release(hand.queue, 'w')
    assert hand.all_keys() == {'settings'}


@pytest.mark.parametrize('queue', ['celery', 'ä', 'a b', 'a:b', '{a}', 'a}b', '', 'x' * 500])
def test_any_queue_name_works(store, queue):
    hand = Hand(store, queue)
    hand.put('a', times=2)
    hand.hire()
    assert hand.serve(2) == ['a', 'a']
    assert store.delete(queue)
    assert not store.client.keys()


def test_queues_share_nothing(store):
    one, other = Hand(store, 'one'), Hand(store, 'other')
    one.put('a')
    other.put('a', times=2)
    one.hire(slots=5)
    assert one.in_egress() == [1]
    assert other.in_egress() == []
    assert store.size('other') == 2


def test_a_queue_that_another_release_stored_takes_no_task(hand):
    """A publisher that is connected already asks nothing else before it publishes."""
    hand.put('a')
    hand.redis.hset(keys.settings(hand.ns), 'schema', '999')
    hand.redis.hdel(keys.state(hand.ns), 'plain')
    with pytest.raises(SchemaMismatch, match='schema version 999'):
        hand.put('a')
    assert hand.waiting('a') == [1]
