"""Accounts that were damaged by hand, and mended: no task is lost, and everybody has a turn again."""
from __future__ import annotations

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.doctor.audit import Account, Audit

TREE = QoS(queues=[SubQueue('high', 99, 3), SubQueue('low', 99, 1)], default_tenant=Tenant(max_in_flight=2))


def look(hand) -> Audit:
    return Audit(hand.store, hand.queue)


def mend(hand) -> Audit:
    return Audit(hand.store, hand.queue, mend=True)


def ids_of(hand):
    """Of the streams that there are."""
    return sorted({key.split(':', 2)[2] for key in hand.all_keys() if key.startswith('tenant:')})


def wrong(hand, *ids):
    return [each for each in look(hand).tenants(ids or ids_of(hand)) if each.noted != each.tasks or each.lost]


def totals_are_right(hand) -> bool:
    totals = look(hand).totals(99)
    return totals.complete and totals.waiting.noted == totals.waiting.tasks and not totals.sums \
        and totals.slots.noted == totals.slots.tasks


def healthy(hand) -> bool:
    return wrong(hand) == [] and totals_are_right(hand) and look(hand).flights(99, 9999999)[1] == []


def test_what_is_right_stays(hand):
    hand.configure(TREE)
    hand.hire(slots=3)
    for tenant in 'a', 'b', 'a\x1fx', 'c\x1fy\x1fz':
        hand.put(tenant, times=4, sub_queue='high')
        hand.put(tenant, times=3, priority=2, sub_queue='low')
    hand.start(*hand.read(at_most=2))
    assert healthy(hand)
    before = {key: hand.redis.dump(key) for key in hand.redis.keys() if not key.endswith(b':state')}
    assert mend(hand).tenants(ids_of(hand))
    mend(hand).totals(99)
    mend(hand).flights(99, 9999999)
    assert {key: hand.redis.dump(key) for key in before} == before
    hand.set_tenant('b', paused=True)
    assert healthy(hand)


def test_a_stream_without_an_account_is_served_again(hand):
    hand.put('b', times=2)
    hand.redis.xadd(keys.tenant_stream(hand.ns, 'lost', 5), {'number': 7, 'tenant': 'lost'})
    hand.redis.xadd(keys.tenant_stream(hand.ns, 'lost', 2), {'number': 6, 'tenant': 'lost'})
    assert wrong(hand) == [Account(':lost', None, 2, True)]
    mend(hand).tenants(ids_of(hand))
    mend(hand).totals(99)
    assert healthy(hand)
    hand.hire()
    assert sorted(hand.serve(4)) == ['b', 'b', 'lost', 'lost']
    assert hand.store.size(hand.queue) == 0


def test_inside_a_tree_too(hand):
    hand.configure(TREE)
    hand.put('a\x1fx', times=3, sub_queue='high')
    hand.put('b', times=2, sub_queue='high')
    hand.redis.delete(keys.waiting(hand.ns), keys.ready(hand.ns, keys.ROOT), keys.ready(hand.ns, 'high'))
    assert {each.id for each in wrong(hand)} == {'high:a\x1fx', 'high:b'}
    mend(hand).tenants(ids_of(hand))
    mend(hand).totals(99)
    assert healthy(hand)
    hand.hire()
    assert sorted(hand.serve(5)) == ['a\x1fx'] * 3 + ['b'] * 2
    assert not hand.redis.exists(keys.waiting(hand.ns))


def test_an_account_of_nothing_is_forgotten_unless_it_has_changed(hand):
    hand.put('a', times=2)
    hand.redis.hset(keys.waiting(hand.ns), ':b', 5)
    hand.redis.zadd(keys.parked(hand.ns), {':b': 9e15})
    assert wrong(hand, ':a', ':b') == [Account(':b', 5, 0)]
    mend(hand).forget([Account(':b', 4, 0), Account(':a', 2, 0)])
    assert hand.redis.hlen(keys.waiting(hand.ns)) == 2
    mend(hand).forget([Account(':b', 5, 0)])
    assert hand.redis.hgetall(keys.waiting(hand.ns)) == {b':a': b'2'}
    assert not hand.redis.exists(keys.parked(hand.ns))


def test_who_has_others_inside_that_limits_hold_is_not_forgotten(hand):
    hand.configure(QoS(tenants={('a', 'x'): Tenant(paused=True)}))
    hand.hire()
    hand.put('a\x1fx', times=3)
    assert not hand.redis.exists(keys.ready(hand.ns, ':a')) and hand.redis.zcard(keys.parked(hand.ns)) == 1
    hand.redis.hset(keys.waiting(hand.ns), ':b', 3)
    assert [each.inside for each in look(hand).tenants([':a', ':b'])] == [True, False]
    accounts = [Account(':a', 3, 0), Account(':b', 3, 0)]
    assert mend(hand).forget(accounts) == 1
    assert hand.redis.hgetall(keys.waiting(hand.ns)) == {b':a': b'3', b':a\x1fx': b'3'}

    hand.redis.hset(keys.waiting(hand.ns), mapping={f':{number}': 1 for number in range(1001)})
    assert look(hand).tenants([':a'])[0].inside
    hand.redis.zadd(keys.parked(hand.ns), {f':{number}': 1 for number in range(1001)})
    assert look(hand).tenants([':a'])[0].inside is None
    assert mend(hand).forget(accounts) == 0


def test_counts_that_are_wrong(hand):
    hand.hire(slots=2)
    hand.put('a', times=5)
    hand.redis.hset(keys.state(hand.ns), mapping={'waiting': 77, 'slots': 1})
    totals = look(hand).totals(99)
    assert (totals.waiting[1:3], totals.slots[1:3]) == ((77, 3), (1, 2))
    assert not look(hand).totals(0).complete
    mend(hand).totals(99)
    assert healthy(hand)


def test_a_cap_that_counts_too_much_holds_nobody_back_any_more(hand):
    hand.configure(QoS(default_tenant=Tenant(max_in_flight=2)))
    hand.hire(slots=9)
    hand.put('a', times=5)
    hand.start(hand.read(at_most=1)[0])
    hand.redis.hincrby(keys.in_flight(hand.ns), 'tenant:a', 2)
    hand.finish(*hand.read())
    assert look(hand).flights(99, 9999999) == (1, [Account('tenant:a', 3, 1)])
    assert look(hand).flights(0, 9999999) == (1, None)
    mend(hand).flights(99, 9999999)
    assert healthy(hand)
    assert len(hand.read()) == 1


def test_keys_that_nobody_goes_by(hand):
    hand.configure(QoS(default_tenant=Tenant(max_in_flight=1)))
    hand.hire('dead', slots=1)
    hand.put('a', times=2)
    hand.start(*hand.read('dead'), consumer='dead')
    hand.redis.zrem(keys.leases(hand.ns), 'dead')
    hand.redis.xadd(keys.egress(hand.ns, 3), {'number': 9, 'tenant': 'a'})
    hand.redis.zadd(keys.finish(hand.ns, 'high'), {'x': 1})
    hand.redis.zadd(keys.ready(hand.ns, 'high'), {'x': 1})
    hand.redis.zadd(keys.aside(hand.ns, 'ready', ''), {':a': 1})
    found = [('running', 'dead'), ('egress', '3'), ('egress', '0'), ('ready', 'high'), ('finish', 'high'),
             ('ready', ''), ('finish', ''), ('aside', 'ready:'), ('running', 'w')]
    hand.hire('w', slots=2)
    assert look(hand).strays(found, 1) == [1, 1, 0, 1, 0, 0, 0, 1, 0]
    assert mend(hand).strays(found, 1) == [1, 1, 0, 1, 1, 0, 0, 1, 0]
    assert look(hand).strays(found, 1) == [0] * len(found)
    hand.end_lease('dead')
    hand.sweep()
    assert sorted(hand.in_egress()) == [2, 9]
    assert not {key for key in hand.all_keys() if key.startswith(('aside', 'running', 'ready:h', 'finish:h', 'moving'))}


def test_a_delayed_task_without_a_due_time(hand):
    hand.put('a', due_ms=1, task_id='past')
    hand.put('a', due_ms=2 ** 42, task_id='t')
    assert look(hand).delayed(['t']) == 0
    hand.redis.delete(keys.delayed(hand.ns))
    assert look(hand).delayed(['t', 'unknown']) == 1
    assert mend(hand).delayed(['t']) == 1
    assert hand.redis.zscore(keys.delayed(hand.ns), hand.redis.zrange(keys.delayed(hand.ns), 0, 0)[0]) == 2 ** 42
    assert look(hand).delayed(['t']) == 0
