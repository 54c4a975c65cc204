"""What people and servers do to the keys behind our back."""
from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from celery_qos import keys
from celery_qos.config import Config, Egress, QoS, SubQueue, Tenant
from celery_qos.store import Recovery, Store
from celery_qos.worker.lease import Lease
from celery_qos.worker.member import Member
from celery_qos.worker.settler import Settler
from tests.lua.hand import Hand


def test_script_flush(hand):
    hand.hire()
    hand.put('a', times=3)
    hand.redis.script_flush()
    assert hand.serve(3) == ['a'] * 3


def test_flushall(hand):
    hand.hire()
    hand.put('a', times=3)
    task, = hand.read()
    hand.redis.flushall()
    assert hand.settle(task) == 0
    assert hand.requeue(task) == 0
    assert hand.sweep() == []
    hand.put('b')
    assert hand.hire() == (True, 0)
    assert hand.serve(1) == ['b']


def test_the_group_was_destroyed(hand):
    hand.hire(slots=2)
    hand.put('a', times=3)
    task = hand.read(at_most=1)[0]
    hand.redis.xgroup_destroy(keys.egress(hand.ns), keys.GROUP)

    assert hand.store.size(hand.queue) == 3
    assert hand.requeue(task) == 0
    hand.hire(slots=2)

    assert [int(delivery.fields[b'number']) for delivery in hand.read()] == [1, 2]
    assert hand.settle(task) == 1


@pytest.mark.parametrize('act', ['sweep', 'purge', 'get', 'release', 'settle', 'size', 'reclaim'])
def test_every_act_bears_a_missing_group(hand, act):
    hand.hire()
    hand.put('a', times=3)
    task, = hand.read()
    hand.redis.xgroup_destroy(keys.egress(hand.ns), keys.GROUP)
    arguments = {'sweep': [600, 'sweeper'], 'get': ['g', 1, 600], 'release': ['w'], 'settle': [[task.entry_id]],
                 'reclaim': ['w', []]}.get(act, [])
    getattr(hand.store, act)(hand.queue, *arguments)


def test_egress_was_deleted(hand):
    hand.hire(slots=2)
    hand.put('a', times=5)
    hand.read()
    hand.redis.delete(keys.egress(hand.ns))
    hand.hire(slots=2)
    assert hand.in_egress() == [3, 4]
    assert len(hand.read()) == 2


def test_a_slot_that_got_free_unseen_goes_to_who_waits_first(hand):
    hand.hire()
    hand.put('a', times=2)
    hand.redis.xtrim(keys.egress(hand.ns), 0, approximate=False)
    hand.put('b')
    assert hand.in_egress() == [2]


def test_a_tenants_stream_was_deleted(hand):
    hand.put('lost', times=5)
    hand.put('kept', times=2)
    hand.redis.delete(keys.tenant_stream(hand.ns, 'lost', 5))
    hand.hire()
    assert hand.serve(5) == ['kept', 'kept']
    assert hand.store.waiting(hand.queue) == {}
    hand.put('lost')
    assert hand.serve(1) == ['lost']
    hand.store.release(hand.queue, 'w')
    assert not hand.redis.keys()


def test_a_settled_task_was_deleted_from_egress_by_hand(hand):
    hand.hire(slots=2)
    hand.put('a', times=2)
    first, _ = hand.read()
    hand.redis.xdel(keys.egress(hand.ns), first.entry_id)
    assert hand.settle(first) == 0
    assert hand.store.release(hand.queue, 'w') == 1
    assert hand.in_egress() == [2]


class TestOutOfMemory:
    """Workers must go on: only they make memory free."""

    @pytest.fixture(autouse=True, params=['lives', 'dies'])
    def full(self, hand, request):
        hand.hire(slots=2)
        hand.put('a', times=5)
        hand.put('a', task_id='later', due_ms=2 ** 43)
        hand.store.declare(hand.queue)
        self.tasks = hand.read()
        self.dies = request.param == 'dies'
        if self.dies:
            hand.end_lease()
        hand.redis.config_set('maxmemory', '100kb')
        yield
        hand.redis.config_set('maxmemory', '0')

    def test_publishing_is_refused_and_nothing_is_written(self, hand):
        before = hand.redis.xlen(keys.tenant_stream(hand.ns, 'a', 5)), hand.store.waiting(hand.queue)
        with pytest.raises(ResponseError, match='maxmemory'):
            hand.put('a')
        assert before == (hand.redis.xlen(keys.tenant_stream(hand.ns, 'a', 5)), hand.store.waiting(hand.queue))

    def test_a_worker_may_come_with_another_config(self, hand):
        newer = QoS(default_tenant=Tenant(2))
        hand.configure(newer)
        hand.store.declare('another', newer.fingerprint, newer.stored, newer.structure)
        assert hand.weight('a') == 2

    def test_leases_are_renewed_and_workers_may_come(self, hand):
        assert hand.hire(slots=2) == (False, 0)
        assert hand.hire('another') == (True, 0)
        assert hand.sweep() == []

    def test_tasks_are_settled_requeued_and_delivered(self, hand):
        first, second = self.tasks
        assert hand.settle(first) == 1
        assert hand.requeue(second) == 1
        assert len(hand.store.take([hand.queue], 'w', 9)) == 2
        assert hand.store.get(hand.queue, 'g', 1, 600)
        hand.store.declare(hand.queue)

    def test_what_is_rejected_or_was_delivered_in_vain_leaves_its_slot(self, hand):
        first, second = self.tasks
        hand.configure(QoS(max_deliveries=1))
        assert hand.store.bury(hand.queue, [first.entry_id], 'rejected') == 1
        assert hand.requeue(second) == 0
        assert hand.store.count_dead_letters(hand.queue) == 2

    def test_only_dead_workers_tasks_are_delivered_again(self, hand):
        recovered = hand.sweep()
        assert recovered == ([Recovery('w', 2, 0, True)] if self.dies else [])

    def test_workers_may_leave_and_queues_may_be_purged(self, hand):
        assert hand.store.release(hand.queue, 'w') == 2
        assert hand.store.purge(hand.queue) == 6

    def test_delayed_tasks_may_be_cancelled(self, hand):
        assert hand.store.cancel(hand.queue, ['later']) == ['later']


def test_every_key_has_the_prefix_and_the_queues_hash_tag(redis):
    store = Store(redis, prefix='shop-')
    hand = Hand(store)
    hand.configure(QoS('dwrr', [SubQueue(name, 100, 1, algorithm='dwrr') for name in ('high', 'low')],
                       egress=Egress(streams=2), tenants={
        'capped': Tenant(max_in_flight=1, burst=1), 'rated': Tenant(rate=0.1),
        'full': Tenant(capacity=1, on_full='dead-letter')}))
    store.mark_transient('q', 60_000)
    hand.put('a', task_id='later', due_ms=2 ** 42, message_id='m', remember_seconds=60)
    store.enqueue('q', 'a', 0, {'expires': '1'})
    hand.hire(slots=2)
    seen = set()
    for tenant in 'a', 'b', 'c{d}', 'e\x1ff', 'capped', 'rated', 'full':
        hand.put(tenant, times=4)
    for number in range(40):
        task, = store.take(['q'], 'w', 1) or [None]
        if task and number % 2:
            hand.start(task)
        seen.update(key.decode() for key in redis.keys())
        if task:
            hand.finish(task, seconds=number % 5)
        store.sweep('q', 600, 'sweeper')
        hand.put('once' if number % 3 else 'capped', sub_queue='high')
    assert all(key.startswith('{shop-qos:q:0}:') for key in seen)
    kinds = {key.removeprefix('{shop-qos:q:0}:').split(':')[0] for key in seen}
    spelled = {name for name in keys.__all__ if name.islower()} - {'namespace', 'tenant_id', 'tenant_stream'}
    # These are there while many tenants have not been looked at since a change; the last one is written by workers.
    spelled -= {'aside', 'moving', 'woken', 'waits'}
    assert kinds == spelled | {'tenant'}
    store.delete('q')
    assert not redis.keys()


def test_prefixes_keep_queues_apart(redis):
    one, other = Hand(Store(redis, 'one:')), Hand(Store(redis, 'other:'))
    one.put('a')
    other.hire()
    assert other.read() == []
    assert other.store.size('q') == 0


class TestAKeyOfAnotherType:
    @pytest.mark.parametrize('name', ['waiting', 'ready', 'finish', 'state', 'egress'])
    def test_a_task_that_is_refused_is_not_written(self, hand, name):
        key = getattr(keys, name)(hand.ns)
        hand.redis.set(key, 'by hand')
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            hand.put('a')
        assert hand.redis.keys() == [key.encode()]

    @pytest.mark.parametrize('name', ['delayed', 'delayed_tasks', 'state'])
    def test_a_delayed_task_that_is_refused_is_not_written(self, hand, name):
        key = getattr(keys, name)(hand.ns)
        hand.redis.set(key, 'by hand')
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            hand.put('a', task_id='x', due_ms=2 ** 42)
        assert not hand.redis.exists(*{keys.delayed(hand.ns), keys.delayed_tasks(hand.ns)} - {key})

    def test_in_place_of_a_tenants_stream_it_stops_that_tenant_only(self, hand):
        hand.put('broken', times=2)
        hand.put('good', times=2)
        stream = keys.tenant_stream(hand.ns, 'broken', 5)
        hand.redis.delete(stream)
        hand.redis.set(stream, 'by hand')

        hand.hire()

        assert hand.serve(9) == ['good', 'good']
        assert hand.store.waiting(hand.queue) == {}
        assert hand.store.size(hand.queue) == 0

    def test_the_queue_can_be_deleted(self, hand):
        hand.put('broken', times=2)
        stream = keys.tenant_stream(hand.ns, 'broken', 5)
        hand.redis.delete(stream)
        hand.redis.set(stream, 'by hand')
        assert hand.store.delete(hand.queue)
        assert not hand.redis.keys()

    def test_of_one_queue_does_not_keep_another_from_being_settled(self, store):
        broken, good = Hand(store, 'broken'), Hand(store, 'good')
        settler = Settler(store)
        for hand in broken, good:
            hand.hire()
            hand.put('a')
            settler.settle(hand.queue, hand.read()[0].entry_id)
        store.client.set(keys.egress(broken.ns), 'by hand')

        settler.flush()

        assert good.in_egress() == []
        assert [queue for queue, _ in settler.unsent] == ['broken']

    def test_of_one_queue_does_not_end_a_lease_on_another(self, store):
        """Else tasks that run would be delivered to others."""
        member = Member(lambda: store, Config())
        lease = member.join()
        for queue in 'broken', 'good':
            lease.set_slots(queue, 1)
        good = Hand(store, 'good')
        good.end_lease(lease.consumer)
        store.client.set(keys.egress(store.namespace('broken')), 'by hand')

        with pytest.raises(ResponseError, match='WRONGTYPE'):
            member._renew(store)

        assert store.client.zscore(keys.leases(good.ns), lease.consumer) > 0
        store.client.delete(keys.egress(store.namespace('broken')))
        member.leave()


def test_a_consumer_that_joins_while_its_slots_are_taken_back_keeps_them(store):
    member = Member(lambda: store, Config())
    lease = member.join()
    lease.set_slots('q', 2)
    lease.active = False

    class JoinsAfterTheLook(type(lease)):
        looked = False

        @property
        def active(self):
            before, self.looked = self.looked, True
            return before

        @active.setter
        def active(self, active):
            pass

    lease.__class__ = JoinsAfterTheLook
    member._renew(store)
    assert lease.slots('q') == 2
    member.leave()


def test_a_consumer_renews_in_time_for_queues_that_it_joins_later():
    lease = Lease('w', None, Config(queues={'brief': QoS(lease_seconds=2)}), list)
    assert lease.interval == 0.4


class TestAccountsThatWereDeleted:
    @pytest.mark.parametrize('before', ['served', 'published to'])
    def test_of_waiting_tasks_are_counted_again(self, hand, before):
        hand.put('a', times=4)
        hand.put('a', priority=7)
        hand.redis.delete(keys.waiting(hand.ns))
        if before == 'published to':
            hand.put('a')
        hand.hire()
        assert hand.serve(9) == ['a'] * (5 + (before == 'published to'))
        hand.store.release(hand.queue, 'w')
        assert not hand.redis.keys()

    def test_with_the_streams_that_they_count(self, hand):
        hand.put('lost', times=2)
        hand.redis.delete(keys.waiting(hand.ns), keys.tenant_stream(hand.ns, 'lost', 5))
        hand.hire()
        hand.put('kept')
        assert hand.serve(2) == ['kept']

    def test_a_queue_does_not_look_like_none(self, hand):
        hand.hire()
        hand.put('a', times=4)
        hand.redis.delete(keys.state(hand.ns))
        hand.hire()
        hand.serve(4)
        assert hand.store.size(hand.queue) == 0


def test_an_entry_with_a_count_of_deliveries_that_is_none(hand):
    hand.hire()
    hand.store.enqueue(hand.queue, 'a', 5, {'number': '1', 'tenant': 'a', 'deliveries': 'junk'})
    assert hand.requeue(*hand.read()) == 1
    assert hand.egress()[0].failures == 1
