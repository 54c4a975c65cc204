"""What is delivered in vain too often, or cannot be delivered, is put aside."""
from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from celery_qos import keys
from celery_qos.config import Egress, QoS, Tenant


def letters(hand) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in hand.store.dead_letters(hand.queue)]


def fail(hand, times: int) -> None:
    for _ in range(times):
        hand.requeue(*hand.read())


class TestDeliveredInVain:
    def test_five_times_by_default(self, hand):
        hand.hire()
        hand.put('a', times=2)
        fail(hand, 4)
        assert letters(hand) == []
        fail(hand, 1)
        letter, = letters(hand)
        assert (letter[b'reason'], letter[b'deliveries']) == (b'delivered 5 times', b'5')
        assert letter[b'number'] == b'1' and letter[b'tenant'] == b'a' and b'enqueued' in letter
        assert hand.in_egress() == [2], 'its slot goes to the next one'

    def test_as_often_as_the_config_says(self, hand):
        hand.configure(QoS(max_deliveries=2))
        hand.hire()
        hand.put()
        fail(hand, 2)
        assert letters(hand)[0][b'deliveries'] == b'2'

    def test_what_did_not_fail_does_not_count(self, hand):
        hand.hire()
        hand.put()
        for _ in range(10):
            hand.requeue(*hand.read(), counted=False)
        assert hand.in_egress() == [1]

    def test_by_workers_that_died(self, hand):
        hand.put()
        for number in range(5):
            hand.hire(f'w{number}')
            assert hand.read(f'w{number}')
            hand.end_lease(f'w{number}')
            recovery, = hand.sweep()
            assert (recovery.tasks, recovery.died) == ((1, 0) if number < 4 else (0, 1))
        assert letters(hand)[0][b'reason'] == b'delivered 5 times'

    @pytest.mark.parametrize('suspects, blamed', [(None, 4), (2, 2), (1, 1)])
    def test_what_only_waited_in_a_dead_worker_is_not_to_blame(self, hand, suspects, blamed):
        hand.put(times=4)
        hand.store.lease(hand.queue, 'w', 4, 600, suspects)
        hand.read()
        hand.end_lease()
        hand.sweep()
        assert [entry.failures for entry in hand.egress()] == [1] * blamed + [0] * (4 - blamed)

    def test_of_more_than_one_call_recovers_only_the_first_are_to_blame(self, hand):
        hand.put(times=250)
        hand.store.lease(hand.queue, 'w', 250, 600, 2)
        hand.read()
        hand.end_lease()
        while hand.sweep():
            pass
        assert [entry.failures for entry in hand.egress()] == [1] * 2 + [0] * 248

    def test_nor_where_egress_has_several_streams(self, hand):
        hand.configure(QoS(egress=Egress(streams=2)))
        hand.put(times=8)
        hand.store.lease(hand.queue, 'w', 8, 600, 2)
        hand.read()
        hand.end_lease()
        hand.sweep()
        assert sum(entry.failures for entry in hand.egress()) == 2

    def test_its_place_in_flight_is_free(self, hand):
        hand.configure(QoS(max_deliveries=1, tenants={'a': Tenant(max_in_flight=1)}))
        hand.hire(slots=2)
        hand.put('a', times=2)
        fail(hand, 1)
        assert hand.in_egress() == [2]


def test_bury(hand):
    hand.hire()
    hand.put('a', times=2)
    task, = hand.read()
    assert hand.store.bury(hand.queue, [task.entry_id], 'malformed: x') == 1
    assert hand.store.bury(hand.queue, [task.entry_id], 'malformed: x') == 0
    assert [letter[b'reason'] for letter in letters(hand)] == [b'malformed: x']
    assert hand.in_egress() == [2]


def test_the_oldest_go_where_there_are_too_many(hand):
    hand.configure(QoS(max_dead_letters=100))
    hand.hire(slots=500)
    hand.put('a', times=500)
    hand.store.bury(hand.queue, [task.entry_id for task in hand.read()], 'x')
    kept = [int(letter[b'number']) for letter in letters(hand)]
    assert kept[-1] == 500 and hand.store.count_dead_letters(hand.queue) <= 300


class TestExhume:
    def bury(self, hand, **kwargs) -> str:
        hand.put(**kwargs)
        task, = hand.read()
        hand.store.bury(hand.queue, [task.entry_id], 'x')
        (letter_id, _), = hand.store.dead_letters(hand.queue)
        return letter_id

    def test_again(self, hand):
        hand.hire()
        letter = self.bury(hand, tenant='a', priority=3)
        hand.put('a', priority=3)
        assert hand.store.exhume(hand.queue, [letter, letter, '1-1'], again=True) == 1
        first, = hand.read()
        hand.settle(first)
        again, = hand.read()
        assert again.fields.pop(b'enqueued')
        assert again.fields == {b'number': b'1', b'tenant': b'a', b'priority': b'3'}
        assert hand.store.count_dead_letters(hand.queue) == 0
        assert not hand.redis.exists(keys.dead(hand.ns))

    def test_for_good(self, hand):
        hand.hire()
        letter = self.bury(hand)
        assert hand.store.exhume(hand.queue, [letter], again=False) == 1
        hand.store.release(hand.queue, 'w')
        assert hand.all_keys() == set()

    def test_what_was_none_of_ours(self, hand):
        letter = hand.redis.xadd(keys.dead(hand.ns), {'x': 'y'}).decode()
        assert hand.store.exhume(hand.queue, [letter], again=True) == 1
        hand.hire()
        delivery, = hand.read()
        assert delivery.fields[b'x'] == b'y'

    def test_without_a_field_that_is_kept(self, hand):
        letter = hand.redis.xadd(keys.dead(hand.ns), {'reason': 'x'}).decode()
        assert hand.store.exhume(hand.queue, [letter], again=True) == 1
        hand.hire()
        delivery, = hand.read()
        assert delivery.fields[b'tenant'] == b''

    def test_one_that_cannot_go_keeps_no_slot_from_those_before_it(self, hand):
        letters = [hand.redis.xadd(keys.dead(hand.ns), {'reason': 'x', 'tenant': tenant, 'number': '1'}).decode()
                   for tenant in 'abc']
        hand.hire(slots=3)
        hand.redis.set(keys.tenant_stream(hand.ns, 'b', 0), 'by hand')
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            hand.store.exhume(hand.queue, letters, again=True)
        assert hand.in_egress() == [1]
        assert [letter_id for letter_id, _ in hand.store.dead_letters(hand.queue)] == letters[1:]
