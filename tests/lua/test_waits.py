"""How long tasks waited: added up by `note_waits.lua`, and read back."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue
from celery_qos.observe.waits import BOUNDS, each_tenant_waits, queue_waits, tenant_waits, totals

from ..until import until
from .hand import Hand

ROOT = keys.ROOT.encode()
MS = 'ms'


@pytest.fixture
def hand(store) -> Hand:
    hand = Hand(store)
    hand.configure(QoS())
    return hand


def minutes(hand: Hand) -> list[bytes]:
    return sorted(hand.redis.scan_iter(keys.waits(hand.ns, '*')))


def counts_of(waits) -> dict[int, int]:
    return {bucket: count for bucket, count in enumerate(waits.counts) if count}


def test_they_add_up_by_tenant_and_for_the_queue(hand):
    for _ in range(2):
        hand.store.note_waits('q', {(ROOT, 2): 3, (ROOT, MS): 21, (b':a', 2): 1, (b':b\x1f\xff', 2): 2}, 0.1)

    whole, = queue_waits(hand.redis, hand.ns).values()
    assert (counts_of(whole), whole.total) == ({2: 6}, 0.042)
    found = tenant_waits(hand.redis, hand.ns, [':a', ':b\x1f\udcff', ':c'])
    assert {name: counts_of(waits) for name, waits in found.items()} == {':a': {2: 2}, ':b\x1f\udcff': {2: 4}, ':c': {}}
    assert {name: waits for name, waits in found.items() if waits.count} == dict(
        each_tenant_waits(hand.redis, hand.ns)) == tenant_waits(hand.redis, hand.ns)
    assert counts_of(totals(hand.redis, hand.ns)['']) == {2: 6}
    assert totals(hand.redis, hand.ns)[''].total == 0.042


def test_sub_queues_have_their_own(hand):
    hand.configure(QoS(queues=[SubQueue('high', 10, 1), SubQueue('low', 10, 1)]))
    hand.store.note_waits('q', {(ROOT, 15): 1, (ROOT, MS): 10 ** 8, (b'low', 15): 1, (b'low', MS): 10 ** 8}, 0)

    for found in queue_waits(hand.redis, hand.ns), totals(hand.redis, hand.ns):
        assert {name: (counts_of(waits), waits.total) for name, waits in found.items()} == {
            '': ({15: 1}, 1e5), 'high': ({}, 0.0), 'low': ({15: 1}, 1e5)}
    hand.configure(QoS(), force=True)
    assert list(totals(hand.redis, hand.ns)) == ['']
    hand.configure(QoS(queues=[SubQueue('low', 10, 1), SubQueue('other', 10, 1)]), force=True)
    assert totals(hand.redis, hand.ns)['low'].count == 1
    assert hand.store.counters('q') == {}


def test_the_time_is_that_in_which_something_was_noted(hand):
    assert queue_waits(hand.redis, hand.ns)[''].seconds >= 300
    hand.store.note_waits('q', {(ROOT, 0): 1}, 0.1)
    assert queue_waits(hand.redis, hand.ns)[''].seconds == 10
    key, = minutes(hand)
    seconds, _ = hand.redis.time()
    hand.redis.hset(key, 'since', (seconds - 100) * 1000)
    assert 100 <= queue_waits(hand.redis, hand.ns)[''].seconds < 110
    hand.redis.hset(key, 'since', 1)
    assert 300 <= queue_waits(hand.redis, hand.ns)[''].seconds < 360


def test_they_expire_and_the_totals_do_not(hand):
    hand.store.note_waits('q', {(ROOT, 0): 1}, 0)
    key, = minutes(hand)
    assert 350 < hand.redis.ttl(key) <= 360
    # As it was some minutes ago: five full ones count. The next one may begin any time.
    number = int(key.rpartition(b':')[2])
    hand.redis.rename(key, keys.waits(hand.ns, number - 4))
    hand.store.note_waits('q', {(ROOT, 0): 1}, 0)
    assert queue_waits(hand.redis, hand.ns)[''].count == 2
    hand.redis.rename(keys.waits(hand.ns, number - 4), keys.waits(hand.ns, number - 7))
    assert queue_waits(hand.redis, hand.ns)[''].count == 1
    assert totals(hand.redis, hand.ns)[''].count == 2


def test_a_deleted_queue_is_gone(hand):
    hand.store.note_waits('q', {(ROOT, 0): 1}, 0)
    hand.store.delete('q')
    hand.store.note_waits('q', {(ROOT, 0): 1}, 0)
    assert list(hand.redis.scan_iter('*')) == []


def test_what_was_written_by_hand_counts_as_nothing(hand):
    hand.store.note_waits('q', {(ROOT, 0): 1, (b':a', 0): 1}, 0)
    key, = minutes(hand)
    hand.redis.hset(key, mapping={
        '0|:a': 'x', '99|:a': 1, 'since': 'y', '|': 1, 'odd': 2, 'x|:a': 1, f'1|{keys.ROOT}': ''})
    assert counts_of(queue_waits(hand.redis, hand.ns)['']) == {0: 1}
    assert [waits.count for waits in tenant_waits(hand.redis, hand.ns).values()] == [0]
    hand.store.note_waits('q', {(b':a', 0): 5}, 0)
    assert counts_of(tenant_waits(hand.redis, hand.ns)[':a']) == {0: 5}
    hand.redis.hset(keys.settings(hand.ns), mapping={'total:wait:0:': 'x', 'queue': '{"queues": [1', 'former': '7'})
    assert totals(hand.redis, hand.ns)[''].count == 0


def test_many_tenants_are_read_in_parts(hand):
    ids = [f':tenant{number}' for number in range(2000)]
    for start in range(0, 2000, 200):
        hand.store.note_waits('q', {(each.encode(), 5): 1 for each in ids[start:start + 200]}, 0)
    hand.redis.config_resetstat()
    assert len(tenant_waits(hand.redis, hand.ns)) == len(tenant_waits(hand.redis, hand.ns, ids)) == 2000
    slowest = max(row['usec_per_call'] for name, row in hand.redis.info('commandstats').items()
                  if name in ('cmdstat_hscan', 'cmdstat_hmget'))
    assert slowest < 5000
    assert tenant_waits(hand.redis, hand.ns, ids)[':tenant7'].quantile(1) == BOUNDS[5]


def test_a_delayed_task_says_until_its_end_when_it_was_due(hand):
    def now_ms():
        seconds, micros = hand.redis.time()
        return seconds * 1000 + micros // 1000

    due = now_ms() + 200
    hand.put('a', due_ms=due, task_id='later')
    until(lambda: now_ms() > due)
    hand.hire()
    hand.store.sweep('q', 60, 's')
    delivery, = hand.read()
    hand.requeue(delivery)
    again, = hand.read()
    assert delivery.fields[b'due'] == again.fields[b'due'] == b'%d' % due
    hand.store.bury('q', [again.entry_id], 'for a test')
    (letter, _), = hand.store.dead_letters('q')
    hand.store.exhume('q', [letter], again=True)
    exhumed, = hand.read()
    assert b'due' not in exhumed.fields
