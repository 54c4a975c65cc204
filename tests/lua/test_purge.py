"""Deleting tasks, and queues."""
from __future__ import annotations

import pytest

from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.publication import Publication
from celery_qos.scripts import script


class TestPurge:
    def test_takes_what_no_worker_holds(self, hand):
        hand.hire(slots=3)
        hand.put('a', times=5, priority=2)
        hand.put('b', times=4, priority=9)
        hand.read(at_most=2)
        assert hand.store.purge(hand.queue) == 7
        assert [entry[1:] for entry in hand.egress()] == [(1, 'w', False, 0), (2, 'w', False, 0)]
        assert hand.store.size(hand.queue) == 0
        assert hand.all_keys() == {'egress', 'leases', 'slots', 'state'}

    def test_a_workers_tasks_can_still_be_settled(self, hand):
        hand.hire(slots=2)
        hand.put('a', times=5)
        task = hand.read(at_most=1)[0]
        hand.store.purge(hand.queue)
        hand.put('a', times=3)
        assert hand.settle(task) == 1
        assert hand.in_egress() == [6, 7]

    @pytest.mark.parametrize('tenants', [1, 99, 100, 101, 1500, 5000])
    def test_any_number_of_tenants(self, hand, tenants):
        """HSCAN from the start finds nothing once a thousand buckets in front are empty."""
        with hand.redis.pipeline(transaction=False) as pipe:
            enqueue = script('enqueue')
            for number in range(tenants):
                publication = Publication(hand.queue, f't{number}', 5, {'number': str(number)})
                pipe.eval(enqueue.source, 1, hand.ns, *publication.arguments)
            pipe.execute()
        purged, calls, done = 0, 0, 0
        while not done:
            some, done = script('purge')(hand.redis, [hand.ns])
            purged, calls = purged + some, calls + 1
            assert calls <= tenants // 20 + 1
        assert purged == tenants
        assert not hand.redis.keys()

    def test_of_nothing(self, hand):
        assert hand.store.purge(hand.queue) == 0
        assert not hand.redis.keys()

    def test_forgets_who_owes_turns(self, hand):
        hand.put('a', times=10)
        hand.put('b', times=10)
        hand.hire()
        hand.serve(5)
        hand.store.purge(hand.queue)
        hand.put('b', times=3)
        hand.put('a', times=2)
        # The first went to a free slot while nobody waited.
        assert ''.join(hand.serve(5)) == 'b' + 'baba'


class TestDelete:
    def test_takes_everything(self, hand):
        hand.configure(QoS(default_tenant=Tenant(2)))
        hand.set_weight('a', 3)
        hand.hire(slots=2)
        hand.put('a', times=5)
        hand.read(at_most=1)
        assert hand.store.delete(hand.queue) is True
        assert not hand.redis.keys()
        assert hand.store.size(hand.queue) is None

    def test_if_unused_it_stays_while_workers_consume(self, hand):
        hand.hire()
        hand.put('a', times=2)
        assert hand.store.delete(hand.queue, if_unused=True) is False
        assert hand.store.size(hand.queue) == 2
        hand.store.release(hand.queue, 'w')
        assert hand.store.delete(hand.queue, if_unused=True) is True
        assert not hand.redis.keys()

    def test_a_task_that_was_published_after_the_purge_goes_too(self, hand):
        hand.put('a', times=2)
        hand.store.purge(hand.queue)
        hand.put('a')
        script('delete')(hand.redis, [hand.ns], 0)
        assert not hand.redis.keys()

    def test_a_workers_settle_afterwards_changes_nothing(self, hand):
        hand.hire()
        hand.put('a')
        task, = hand.read()
        hand.store.delete(hand.queue)
        assert hand.settle(task) == 0
        assert hand.requeue(task) == 0
        assert not hand.redis.keys()

    def test_what_comes_afterwards_finds_a_new_queue(self, hand):
        hand.hire()
        hand.put('a', times=3)
        hand.store.delete(hand.queue)
        hand.put('b', times=2)
        assert hand.hire() == (True, 0)
        assert hand.serve(2) == ['b', 'b']


def test_ends_where_the_streams_of_many_were_deleted_by_hand(hand):
    for number in range(150):
        hand.put(f't{number}')
        hand.put(f'outer\x1f{number}')
    hand.redis.delete(*[f'{hand.ns}:{key}' for key in hand.all_keys() if key.startswith('tenant:')])
    calls = (script('purge')(hand.redis, [hand.ns]) for _ in range(20))
    assert any(done for _, done in calls)
    assert hand.all_keys() <= {'settings'}


class TestTenant:
    def test_takes_what_waits_of_one(self, hand):
        hand.hire(slots=2)
        hand.put('a', times=5, priority=2)
        hand.put('a', times=4, priority=9)
        hand.put('b', times=3)
        assert hand.store.count_waiting(hand.queue, 'a') == 7
        assert hand.store.purge_tenant(hand.queue, 'a') == 7
        assert hand.store.purge_tenant(hand.queue, 'a') == hand.store.count_waiting(hand.queue, 'a') == 0
        assert hand.in_egress() == [1, 2]
        assert hand.serve(5) == ['a', 'a', 'b', 'b', 'b']

    def test_nothing_is_left_of_the_last(self, hand):
        hand.configure(QoS(default_tenant=Tenant(paused=True)))
        hand.hire()
        hand.put('a', times=5)
        hand.put('a\x1fx', times=2)
        hand.store.release(hand.queue, 'w')
        assert hand.store.purge_tenant(hand.queue, 'a') == 7
        assert hand.all_keys() == {'settings'}

    def test_with_those_inside_and_no_others(self, hand):
        for tenant in 'a*', 'a*\x1fx', 'a*\x1fx\x1fy', 'a*\x1fz', 'ab\x1fx', 'b', 'b:a*\x1fx':
            hand.put(tenant, times=2)
        assert hand.store.count_waiting(hand.queue, 'a*') == 8
        assert hand.store.purge_tenant(hand.queue, 'a*\x1fx') == 4
        assert hand.store.purge_tenant(hand.queue, 'a*') == 4
        hand.hire()
        assert sorted(hand.serve(10)) == sorted(['ab\x1fx', 'b', 'b:a*\x1fx'] * 2)

    def test_in_all_sub_queues(self, hand):
        hand.configure(QoS(queues=[SubQueue(name, 100, 1) for name in 'xyz']))
        for name in 'xyz':
            hand.put('a', times=2, sub_queue=name)
        hand.put('b', sub_queue='y')
        hand.configure(QoS(queues=[SubQueue(name, 100, 1) for name in 'xy']), force=True)
        assert hand.store.count_waiting(hand.queue, 'a') == 6
        assert hand.store.count_waiting_in(hand.queue, 'y') == 3
        assert hand.store.purge_tenant(hand.queue, 'a') == 6
        hand.hire()
        assert hand.serve(2) == ['b']

    def test_who_comes_back_steals_no_turns(self, hand):
        hand.set_weight('a', 0.1)
        hand.hire()
        hand.put('b', times=20)
        hand.put('a', times=3)
        assert 'a' in hand.serve(4)
        hand.store.purge_tenant(hand.queue, 'a')
        hand.put('a', times=3)
        assert 'a' not in hand.serve(7)
        assert 'a' in hand.serve(4)

    def test_many_inside_are_told_of_on_the_way(self, hand):
        for number in range(50):
            hand.put(f'a\x1f{number}')
        told = []
        assert hand.store.purge_tenant(hand.queue, 'a', told.append) == sum(told) == 50
        assert len(told) > 3
