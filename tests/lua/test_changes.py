"""What changes while tasks wait or run leaves nobody behind and nothing counted wrongly."""
from __future__ import annotations

from dataclasses import replace

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.keys import PART
from tests.lua.hand import Hand

INSIDE = 'acme\x1fx'


def sub_queues(*names: str, algorithm: str = 'wrr', **options) -> list[SubQueue]:
    return [SubQueue(name, 100, 1, algorithm=algorithm, **options) for name in names]


def in_flight(hand: Hand) -> dict[bytes, bytes]:
    return hand.redis.hgetall(keys.in_flight(hand.ns))


class TestSubQueues:
    def test_a_tenant_that_waits_in_one_that_is_declared_no_longer_is_woken(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low')))
        hand.set_tenant('a', paused=True)
        hand.put('a', sub_queue='low')
        hand.hire()
        hand.configure(QoS(), force=True)

        hand.set_tenant('a', paused=False)

        assert hand.serve(2) == ['a']

    def test_and_so_it_is_when_a_task_of_its_ends(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low'), default_tenant=Tenant(max_in_flight=1)))
        hand.put('a', sub_queue='low', times=2)
        hand.hire(slots=2)
        hand.configure(QoS(default_tenant=Tenant(max_in_flight=1)), force=True)
        assert hand.serve(3) == ['a', 'a']

    def test_one_that_is_declared_no_longer_is_not_paused_for_good(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low')))
        hand.store.set(hand.queue, 'sub:low', {'paused': True})
        hand.hire()
        hand.put('a', sub_queue='low')
        hand.configure(QoS(), force=True)
        assert hand.serve(2) == ['a']

    def test_a_queue_without_any_goes_by_its_algorithm_while_tasks_wait_in_former_ones(self, hand):
        hand.configure(QoS('rr', queues=sub_queues('high', 'low')))
        hand.put('former', sub_queue='low', times=5)
        hand.configure(QoS('pq', tenants={'first': Tenant()}), force=True)
        hand.put('other', times=3)
        hand.put('first', times=3)
        hand.hire()
        turns = [tenant for tenant in hand.serve(11) if tenant != 'former']
        assert turns == ['first'] * 3 + ['other'] * 3

    def test_and_has_one_level_again_once_nothing_waits(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low')))
        hand.put('a', sub_queue='low')
        hand.configure(QoS(), force=True)
        hand.hire()
        assert hand.serve(2) == ['a']
        hand.put('b', times=3)
        assert hand.redis.hkeys(keys.waiting(hand.ns)) == [b':b']

    def test_ranked_tenants_starve_nobody_once_there_are_some(self, hand):
        hand.configure(QoS('pq', tenants={'first': Tenant()}))
        hand.put('first', times=20)
        hand.put('other', times=20)
        hand.configure(QoS('pq', queues=sub_queues('high', 'low')), force=True)
        hand.hire()
        assert hand.serve(20).count('other') == 10

    def test_nor_in_one_that_is_declared_no_longer(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low', algorithm='pq'), tenants={'first': Tenant()}))
        hand.put('first', sub_queue='low', times=20)
        hand.put('other', sub_queue='low', times=20)
        hand.configure(QoS(queues=sub_queues('high', 'mid')), force=True)
        hand.hire()
        assert hand.serve(20).count('other') == 10

    def test_what_runs_does_not_count_for_good_for_one_that_was_away(self, hand):
        with_cap = QoS(queues=sub_queues('high', 'low', max_in_flight=1))
        hand.configure(with_cap)
        hand.hire(slots=5)
        hand.put('a', sub_queue='low')
        task, = hand.read()
        hand.configure(QoS(), force=True)
        hand.put('b')
        hand.finish(task)
        assert in_flight(hand) == {}
        hand.configure(with_cap, force=True)
        hand.put('a', sub_queue='low')
        assert len(hand.read()) == 2


class TestOrder:
    def test_another_order_of_tenants_holds_for_those_that_wait(self, hand):
        hand.configure(QoS('pq', tenants={'a': Tenant(), 'b': Tenant()}))
        for tenant in 'ab':
            hand.put(tenant, times=3)
        hand.configure(QoS('pq', tenants={'b': Tenant(), 'a': Tenant()}))
        hand.hire()
        assert ''.join(hand.serve(6)) == 'bbbaaa'

    def test_who_is_named_no_longer_is_not_before_all_others(self, hand):
        hand.configure(QoS('pq', tenants={'a': Tenant()}))
        for tenant in 'ab':
            hand.put(tenant, times=3)
        hand.configure(QoS('pq'))
        hand.hire()
        assert ''.join(hand.serve(6)) == 'ababab'

    @pytest.mark.parametrize('paused', [False, True])
    def test_another_algorithm_holds_inside_tenants_too(self, hand, paused):
        hand.configure(QoS('pq', tenants={'acme\x1fy': Tenant()}))
        hand.put(INSIDE, times=10)
        hand.put('acme\x1fy', times=10)
        hand.set_tenant('acme', paused=paused)
        hand.hire()
        hand.configure(QoS('rr', tenants={'acme\x1fy': Tenant()}), force=True)
        hand.set_tenant('acme', paused=False)
        hand.serve(1)
        assert hand.serve(10).count(INSIDE) == 5


class TestMeasured:
    """By dwrr: what a task costs is known when it ends."""

    def test_tags_of_tenants_that_ended_in_another_sub_queue_do_not_pile_up(self, hand):
        hand.configure(QoS(queues=sub_queues('high', 'low', algorithm='dwrr')))
        hand.put('busy', sub_queue='high', times=50)
        hand.hire(slots=3)
        held = hand.read()
        for sub_queue in 'high', 'low':
            hand.put('once', sub_queue=sub_queue)
        while sum(delivery.fields[b'tenant'] == b'once' for delivery in held) < 2:
            held.sort(key=lambda delivery: delivery.fields[b'tenant'])
            hand.finish(held.pop(0), seconds=1)
            held += hand.read()
        for sub_queue in b'high', b'low':
            once = [each for each in held if each.fields[b'tenant'] == b'once']
            hand.finish(*[each for each in once if each.fields[b'sub'] == sub_queue])
        assert hand.store.waiting(hand.queue)
        assert not hand.redis.exists(keys.owing(hand.ns, 'high'))

    def test_another_weight_holds_for_the_tag_of_a_drained_tenant_whose_task_still_runs(self, hand):
        hand.configure(QoS('dwrr', tenants={'a': Tenant(0.01)}))
        hand.put('a')
        hand.put('b', times=40)
        hand.hire()
        task, = hand.read()
        hand.start(task)
        hand.serve(1)
        hand.set_weight('a', 1)
        hand.put('a', times=20)
        assert hand.serve(20).count('a') >= 9

    def test_a_tenants_own_tasks_are_estimated_by_what_they_took_when_it_has_others_inside(self, hand):
        hand.configure(QoS('dwrr'))
        hand.hire()
        hand.put('acme')
        hand.finish(*hand.read(), seconds=9)
        hand.put('other')
        hand.finish(*hand.read(), seconds=1)
        hand.put(INSIDE, times=2)
        hand.put('acme')
        hand.hire(slots=3)
        assert [float(each.fields[b'tracked']) for each in hand.read() if each.fields[b'tenant'] == b'acme'] == [9]


def test_the_new_task_of_a_tenant_is_not_dropped_as_its_oldest(hand):
    """Only those inside it have tasks: none of its own could be dropped in favour of this one."""
    hand.configure(QoS(tenants={'acme': Tenant(capacity=2, on_full='drop-oldest')}))
    hand.put(INSIDE, times=2)
    with pytest.raises(Exception, match='acme'):
        hand.put('acme')
    assert hand.store.waiting(hand.queue) == {'acme': 2, INSIDE: 2}


def test_tasks_in_a_stream_of_egress_that_is_new_are_purged(hand):
    hand.configure(QoS())
    hand.hire(slots=4)
    hand.store.set(hand.queue, 'queue', {'streams': 2})
    hand.put('a', times=4)
    assert hand.store.purge(hand.queue) == 4
    hand.store.release(hand.queue, 'w')
    assert hand.all_keys() == {'settings'}


def test_a_tenant_whose_sub_queue_is_declared_no_longer_goes_where_the_others_go(hand):
    def declared(*names: str) -> QoS:
        return QoS(queues=[SubQueue(name, 100, 1) for name in names])

    hand.configure(declared('old', 'low'))
    hand.set_tenant('acme', sub_queue='old')
    hand.set_tenant('acme\x1falice', sub_queue='new')
    hand.put('acme')
    hand.configure(declared('new', 'low'), force=True)

    hand.put('acme')
    hand.put('acme\x1falice')

    assert hand.store.waiting(hand.queue) == {'old:acme': 1, 'low:acme': 1, 'new:acme': 1, 'new:acme\x1falice': 1}


def test_a_new_config_takes_no_tenant_with_others_inside_for_one_with_tasks_of_its_own(hand):
    """All inside it are paused, and it was found to have nothing to borrow slots for."""
    capped = Tenant(max_in_flight=1, burst=1)
    hand.configure(QoS(tenants={'a': capped}))
    hand.hire(slots=1)
    hand.put(f'a{PART}x', times=4)
    hand.set_tenant(f'a{PART}x', paused=True)
    hand.hire(slots=3)

    hand.configure(QoS(tenants={'a': replace(capped, weight=2, max_in_flight=2)}))

    assert hand.store.waiting(hand.queue) == {'a': 3, f'a{PART}x': 3}
    hand.set_tenant(f'a{PART}x', paused=False)
    assert hand.finish(*hand.read()) + len(hand.serve(9)) == 4
