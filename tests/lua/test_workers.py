"""Slots and leases: workers come, go, shrink and die."""
from __future__ import annotations

from celery_qos import keys
from celery_qos.store import Recovery


class TestLease:
    def test_a_workers_slots_are_filled_at_once(self, hand):
        hand.put('a', times=5)
        assert hand.hire(slots=2) == (True, 0)
        assert hand.in_egress() == [1, 2]

    def test_renewing_is_not_new(self, hand):
        hand.hire()
        assert hand.hire() == (False, 0)

    def test_a_lease_that_ended_but_was_not_swept_is_renewed(self, hand):
        hand.hire()
        hand.put('a')
        hand.read()
        hand.end_lease()
        assert hand.hire() == (False, 0)
        assert hand.sweep() == []
        assert hand.egress()[0].owner == 'w'

    def test_lasts_as_long_as_it_says_by_the_servers_clock(self, hand):
        hand.hire(seconds=30)
        seconds, microseconds = hand.redis.time()
        left = hand.redis.zscore(keys.leases(hand.ns), 'w') / 1000 - seconds - microseconds / 1e6
        assert 29 < left <= 30

    def test_more_slots_act_at_once(self, hand):
        hand.hire(slots=1)
        hand.put('a', times=5)
        hand.hire(slots=3)
        assert hand.in_egress() == [1, 2, 3]

    def test_fewer_slots_take_nothing_back(self, hand):
        hand.hire(slots=3)
        hand.put('a', times=5)
        hand.hire(slots=1)
        assert hand.in_egress() == [1, 2, 3]
        first, second, third = hand.read()
        hand.settle(first, second)
        assert hand.in_egress() == [3]
        hand.settle(third)
        assert hand.in_egress() == [4]

    def test_slots_are_summed_over_the_workers(self, hand):
        for consumer, slots in ('v', 2), ('w', 3), ('v', 1):
            hand.hire(consumer, slots)
        assert hand.state()['slots'] == 4

    def test_without_slots_it_lasts_while_tasks_are_unsettled(self, hand):
        hand.hire(slots=2)
        hand.put('a', times=3)
        first, second = hand.read()
        assert hand.hire(slots=0) == (False, 2)
        hand.settle(first)
        assert hand.hire(slots=0) == (False, 1)
        assert hand.state()['slots'] == 0
        hand.settle(second)
        assert hand.hire(slots=0) == (False, 0)
        assert not hand.redis.exists(keys.leases(hand.ns))
        assert hand.waiting('a') == [3]


class TestRelease:
    def test_what_was_not_settled_is_delivered_again_in_the_old_order(self, hand):
        hand.hire('leaves', slots=3)
        hand.put('a', times=4)
        _, second, _ = hand.read('leaves')
        hand.settle(second)
        hand.read('leaves')

        assert hand.store.release(hand.queue, 'leaves') == 3

        assert [entry[1:] for entry in hand.egress()] == [
            (1, None, True, 0), (3, None, True, 0), (4, None, True, 0)]
        assert 'leaves' not in hand.consumers()

    def test_its_tasks_go_to_the_next_worker(self, hand):
        hand.hire('leaves')
        hand.put('a')
        hand.read('leaves')
        hand.store.release(hand.queue, 'leaves')
        hand.hire('comes')
        assert [delivery.fields[b'redelivered'] for delivery in hand.read('comes')] == [b'1']

    def test_leaves_what_others_hold(self, hand):
        hand.hire('leaves')
        hand.hire('stays')
        hand.put('a', times=2)
        hand.read('stays', 1)
        hand.store.release(hand.queue, 'leaves')
        assert [entry.owner for entry in hand.egress()] == ['stays', None]
        assert hand.state()['slots'] == 1

    def test_more_than_a_call_hands_back(self, hand):
        hand.hire(slots=250)
        hand.put('a', times=250)
        hand.read()
        assert hand.store.release(hand.queue, 'w') == 250
        assert hand.in_egress() == list(range(1, 251))
        assert hand.consumers() == set()

    def test_a_worker_that_was_never_there(self, hand):
        assert hand.store.release(hand.queue, 'nobody') == 0
        assert not hand.redis.keys()


class TestSweep:
    def test_a_dead_workers_tasks_are_delivered_again_in_the_old_order(self, hand):
        hand.hire('dies', slots=3)
        hand.put('a', times=5)
        hand.read('dies', 2)
        hand.end_lease('dies')

        assert hand.sweep() == [Recovery('dies', 2, 0, True)]

        assert [entry[1:] for entry in hand.egress()] == [
            (3, None, False, 0), (1, None, True, 1), (2, None, True, 1)]
        assert hand.state()['slots'] == 0
        assert hand.consumers() == set()

    def test_its_slots_do_not_go_to_waiting_tasks(self, hand):
        hand.hire('dies', slots=2)
        hand.hire('lives', slots=1)
        hand.put('a', times=5)
        hand.read('dies', 2)
        hand.end_lease('dies')
        hand.sweep()
        assert sorted(hand.in_egress()) == [1, 2, 3]
        hand.settle(*hand.read('lives', 2))
        assert len(hand.in_egress()) == 1

    def test_each_death_counts(self, hand):
        hand.put('a')
        for deaths in range(1, 4):
            hand.hire('dies')
            hand.read('dies')
            hand.end_lease('dies')
            hand.sweep()
            assert hand.egress()[0].failures == deaths

    def test_a_live_worker_keeps_its_tasks_however_long_they_run(self, hand):
        hand.hire('lives')
        hand.put('a')
        hand.read('lives')
        for _ in range(3):
            hand.hire('lives')
            assert hand.sweep() == []
        assert hand.egress()[0].owner == 'lives'

    def test_a_consumer_is_deleted_only_once_it_holds_nothing(self, hand):
        hand.hire('dies', slots=250)
        hand.put('a', times=250)
        hand.read('dies')
        hand.end_lease('dies')
        left, done = 250, False
        while not done:
            (_, moved, _, done), = hand.sweep()
            assert done or moved == 30
            left -= moved
            assert sum(entry.owner == 'dies' for entry in hand.egress()) == left
            assert ('dies' in hand.consumers()) is not done
        assert left == 0
        assert hand.in_egress() == list(range(1, 251))

    def test_many_deaths(self, hand):
        for number in range(25):
            hand.hire(f'w{number}')
            hand.put('a')
            hand.read(f'w{number}')
            hand.end_lease(f'w{number}')
        while hand.sweep():
            pass
        assert all(entry.owner is None and entry.failures == 1 for entry in hand.egress())
        assert len(hand.egress()) == 25

    def test_a_reader_without_lease_gets_one_to_lose(self, hand):
        """It was swept while its read was under way: what the read brings must not be held for good."""
        hand.hire('late')
        hand.end_lease('late')
        hand.put('a')
        hand.sweep()
        hand.read('late')

        hand.sweep()
        assert hand.redis.zrange(keys.leases(hand.ns), 0, -1) == [b'late']
        assert hand.egress()[0].owner == 'late'

        hand.end_lease('late')
        assert hand.sweep() == [Recovery('late', 1, 0, True)]
        assert hand.egress()[0].owner is None

    def test_of_nothing(self, hand):
        assert hand.sweep() == []
        assert not hand.redis.keys()

    def test_fills_slots_that_no_event_filled(self, hand):
        hand.hire(slots=2)
        hand.put('a', times=4)
        hand.redis.xtrim(keys.egress(hand.ns), 0, approximate=False)
        hand.sweep()
        assert hand.in_egress() == [3, 4]


def test_without_work_and_workers_only_settings_stay(hand):
    hand.store.declare(hand.queue, 'config', {'default:weight': 1.0})
    hand.hire('v', slots=2)
    hand.hire('w', slots=2)
    for tenant in 'abc':
        hand.put(tenant, times=5)
    while read := hand.read():
        hand.settle(*read)
    for consumer in 'vw':
        hand.store.release(hand.queue, consumer)
    assert hand.all_keys() == {'settings'}
