"""The scripts that move tasks between stock lists and tenants' streams."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.migrate.ferry import Ferry
from celery_qos.publication import Publication

from ..until import until

LIST = 'celery'


@pytest.fixture
def fill(hand):
    """Put entries into a stock list, the first one to be taken first."""
    return lambda *entries: hand.redis.lpush(LIST, *entries)


def publication(number, tenant='a', **kwargs):
    expires = {'expires': str(kwargs.pop('expires'))} if 'expires' in kwargs else {}
    return Publication('q', tenant, 5, {**expires, 'number': str(number), 'tenant': tenant}, **kwargs)


def adopt(hand, *tasks, look=100):
    return hand.store.adopt('q', LIST, look, [(str(task.fields['number']).encode(), task) for task in tasks])


def claim(hand, most=30):
    deliveries, more = hand.store.claim('q', 'm', most, 60)
    return deliveries, more


def leave(hand, deliveries):
    return hand.store.leave('q', 'm', 60, ['stock0', 'stock5'], [
        ('egress', each.entry_id, 1, each.fields[b'number']) for each in deliveries])


def test_what_is_adopted_waits_behind_its_tenant_and_contends_with_others(hand, fill):
    hand.put('b', 3)
    fill(11, 12, 13)

    assert adopt(hand, *(publication(number) for number in (11, 12, 13))) == ['waits'] * 3

    assert hand.redis.exists(LIST) == 0
    assert hand.waiting('a') == [11, 12, 13]
    hand.hire()
    assert hand.serve(6) == ['b', 'a', 'b', 'a', 'b', 'a']


def test_what_a_worker_took_meanwhile_is_gone(hand, fill):
    fill(1, 2, 3)
    hand.redis.rpop(LIST)

    assert adopt(hand, publication(1), publication(2)) == ['gone', 'waits']

    assert (hand.redis.lrange(LIST, 0, -1), hand.waiting()) == ([b'3'], [2])


def test_an_entry_that_is_too_far_from_the_end_is_not_looked_for(hand, fill):
    fill(1, 2, 3, 4)

    assert adopt(hand, publication(4), look=3) == ['gone']

    assert hand.redis.llen(LIST) == 4


def test_equal_entries_move_one_by_one(hand, fill):
    fill(1, 1)
    assert adopt(hand, publication(1)) == ['waits']
    assert hand.redis.llen(LIST) == 1


def test_no_capacity_keeps_a_task_out(hand, fill):
    hand.configure(QoS(default_tenant=Tenant(capacity=1)))
    fill(1, 2)
    assert adopt(hand, publication(1), publication(2)) == ['waits', 'waits']


def test_delayed_and_expired_tasks_are_told_apart(hand, fill):
    fill(1, 2, 3)
    now = hand.redis.time()[0] * 1000

    assert adopt(hand, publication(1, due_ms=now + 60_000, task_id='one'), publication(2, expires=now - 1000),
                 publication(3, due_ms=now - 1000, task_id='three')) == ['delayed', 'expired', 'waits']

    assert [each.due_ms for each in hand.store.delayed('q')] == [now + 60_000]
    assert (hand.store.count_cancelled('q'), hand.waiting(), hand.redis.exists(LIST)) == (1, [3], 0)


def test_one_of_an_unknown_sub_queue_goes_where_those_go_that_name_none(hand, fill):
    hand.configure(QoS(queues=[SubQueue('high', 100, 1), SubQueue('low', 100, 1)]))
    fill(1, 2)
    assert adopt(hand, publication(1, sub_queue='gone'), publication(2, sub_queue='high')) == ['waits', 'waits']
    assert hand.store.waiting('q') == {'high:a': 1, 'low:a': 1}


def test_one_whose_key_holds_something_else_stays(hand, fill):
    hand.redis.set(keys.tenant_stream(hand.ns, 'a', 5), 'x')
    fill(1, 2)
    assert adopt(hand, publication(1), publication(2, 'b')) == ['stuck', 'waits']
    assert hand.redis.lrange(LIST, 0, -1) == [b'1']


def test_free_slots_are_filled_at_once(hand, fill):
    hand.hire(slots=2)
    fill(1, 2, 3)
    adopt(hand, *map(publication, (1, 2, 3)))
    assert (hand.in_egress(), hand.waiting()) == ([1, 2], [3])


def test_one_call_does_a_part(hand, fill):
    fill(*range(100))
    outcomes = adopt(hand, *map(publication, range(100)))
    assert 0 < len(outcomes) < 100
    assert hand.redis.llen(LIST) == 100 - len(outcomes)


def test_claims_come_in_the_order_of_turns_whatever_holds_them(hand):
    hand.configure(QoS(tenants={'paused': Tenant(paused=True), 'capped': Tenant(max_in_flight=1),
                                'slow': Tenant(rate='1/h'), 'gold': Tenant(weight=2)}))
    hand.hire()
    for tenant in 'paused', 'capped', 'slow', 'gold':
        hand.put(tenant, 3)
    assert hand.read()     # and so those are parked that are held
    seconds, micros = hand.redis.time()
    expires = seconds * 1000 + micros // 1000 + 50
    hand.store.enqueue('q', 'late', 5, {'expires': str(expires), 'tenant': 'late', 'number': '99'})
    until(lambda: hand.redis.time()[0] * 1000 + hand.redis.time()[1] // 1000 > expires)

    moved = []
    while True:
        deliveries, more = claim(hand, 5)
        if not deliveries and not more:
            break
        moved += [each.fields[b'tenant'].decode() for each in deliveries]
        leave(hand, deliveries)

    # One is with the worker.
    assert sorted(moved + [hand.redis.xrange(keys.egress(hand.ns))[0][1][b'tenant'].decode()]) == sorted(
        ['paused', 'capped', 'slow', 'gold'] * 3 + ['late'])
    assert hand.redis.llen('stock5') == 12
    assert hand.store.settings('q', 'tenant:paused')['paused']


def test_claims_of_plain_tenants_are_fair(hand):
    hand.set_weight('gold', 2)
    hand.put('a', 6)
    hand.put('gold', 6)
    deliveries, more = claim(hand)
    order = ''.join(each.fields[b'tenant'].decode()[0] for each in deliveries)
    assert (order[:9].count('g'), order[:9].count('a'), more) == (6, 3, False)


def test_what_has_left_leaves_nothing_behind(hand):
    hand.configure(QoS(algorithm='dwrr', default_tenant=Tenant(max_in_flight=3)))
    hand.put('a', 5)
    while found := claim(hand, 2)[0]:
        assert leave(hand, found) == len(found)
    assert hand.redis.lrange('stock5', 0, -1) == [b'5', b'4', b'3', b'2', b'1']
    assert {key for key in hand.all_keys() if not key.startswith('published')} == {'settings', 'stock5'}


def test_what_was_claimed_is_delivered_when_the_lease_has_ended_and_not_counted(hand):
    hand.put(times=2)
    claimed, _ = claim(hand)
    hand.hire(slots=2)
    assert hand.read() == []
    hand.end_lease('m')
    hand.sweep()

    again = hand.read()

    assert [(each.fields[b'number'], each.fields[b'deliveries']) for each in again] == [(b'1', b'0'), (b'2', b'0')]
    assert leave(hand, claimed) == 0
    assert hand.redis.exists('stock5') == 0


def test_a_claim_takes_no_slot_of_the_workers(hand):
    hand.hire(slots=2)
    hand.put('a', 10)
    held = hand.read()
    claimed, _ = claim(hand, 3)
    hand.settle(*held)
    assert len(hand.read()) == 2
    assert hand.state()['slots'] == 5
    leave(hand, claimed)
    assert hand.state()['slots'] == 2


def test_workers_that_are_there_are_served_meanwhile(hand):
    hand.configure(QoS(default_tenant=Tenant(max_in_flight=2)))
    hand.put('a', 8)
    hand.hire(slots=2)
    claimed, _ = claim(hand, 4)
    assert len(claimed) == 4 and hand.read() == []
    # The tasks that a worker could have had went; no limit holds them, and its slots are free.
    assert hand.redis.exists(keys.bell(hand.ns))
    hand.sweep()
    assert hand.read() == [], 'the tenant is at its cap'
    leave(hand, claimed)
    assert len(hand.read()) == 2


def test_a_delayed_task_leaves_once(hand):
    now = hand.redis.time()[0] * 1000
    hand.store.enqueue('q', 'a', 5, {'number': '1', 'tenant': 'a'}, task_id='one', due_ms=now + 60_000)
    (task,) = hand.store.delayed('q')
    moves = [('delayed', task.place, 0, b'one')]
    assert hand.store.leave('q', 'm', 60, ['stock0'], moves) == 1
    assert hand.store.leave('q', 'm', 60, ['stock0'], moves) == 0
    assert hand.redis.lrange('stock0', 0, -1) == [b'one']
    assert hand.store.count_delayed('q') == 0


def test_a_list_that_is_none_keeps_the_task_where_it_is(hand):
    hand.redis.set('stock0', 'x')
    hand.put()
    claimed, _ = claim(hand)
    with pytest.raises(Exception, match='WRONGTYPE'):
        hand.store.leave('q', 'm', 60, ['stock0'], [('egress', claimed[0].entry_id, 0, b'1')])
    assert hand.in_egress() == [1]


class Killed(BaseException):
    pass


class Mortal:
    """A client whose process ends before, or after, one of its commands."""

    def __init__(self, client, fate):
        self._client, self._fate = client, fate

    def __getattr__(self, name):
        def command(*args, **kwargs):
            self._fate()
            reply = getattr(self._client, name)(*args, **kwargs)
            self._fate()
            return reply
        return command


def ferry_of(server, fate=lambda: None):
    return Ferry(Mortal(server.client(), fate), 'here', Mortal(server.client(db=1), fate), 'there', 'move:')


def carry_all(ferry):
    while ferry.carry(4):
        pass


def test_a_ferry_that_is_killed_at_any_point_loses_and_doubles_nothing(server, redis):
    there, point, ended = server.client(db=1), 0, False
    while not ended:
        point += 1
        server.client().flushall()
        redis.lpush('here', *range(10))
        # A server that has not run the scripts is told them in a second command.
        steps = iter(range(point))

        def fate(steps=steps):
            if next(steps, None) is None:
                raise Killed
        try:
            carry_all(ferry_of(server, fate))
            ended = True
        except Killed:
            carry_all(ferry_of(server))
        assert [int(entry) for entry in there.lrange('there', 0, -1)] == list(range(9, -1, -1)), point
        assert redis.keys() == []
        assert all(there.ttl(key) > 0 for key in there.keys('move:came:*')), point
    assert point > 15


def test_two_ferries_of_one_list_do_no_harm(server, redis):
    redis.lpush('here', *range(50))
    one, other, turns = ferry_of(server), [], iter(range(1000))

    def interleave():
        # Within each step of one ferry the other goes on by a whole batch, now and then.
        if next(turns) % 3 == 0 and not other:
            other.append(1)
            ferry_of(server).carry(3)
            other.clear()
    carry_all(ferry_of(server, interleave))
    carry_all(one)
    found = [int(entry) for entry in server.client(db=1).lrange('there', 0, -1)]
    assert found == list(range(49, -1, -1))
