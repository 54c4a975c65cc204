"""What a worker counts of waits: told to a real Redis, kept while that refuses, and never too much."""
from __future__ import annotations

import pytest
from redis import Redis

from celery_qos import keys
from celery_qos.clock import ServerClock
from celery_qos.observe.waits import bucket_of, queue_waits, tenant_waits
from celery_qos.store import Delivery, Store
from celery_qos.worker.waits import MOST_TENANTS, WaitMeter

NS = keys.namespace('q')


@pytest.fixture
def meter(store) -> WaitMeter:
    store.declare('q')
    store.lease('q', 'w', 1, 60)
    return WaitMeter(store.clock)


def server_ms(redis) -> int:
    seconds, micros = redis.time()
    return seconds * 1000 + micros // 1000


def delivery(enqueued_ms, tenant=b'a', **fields) -> Delivery:
    named = {name.encode(): value for name, value in fields.items()}
    return Delivery('q', '1-1', {b'tenant': tenant, b'enqueued': b'%d-0' % enqueued_ms, **named})


def test_waits_are_told_by_the_servers_clock(meter, store, redis):
    now = server_ms(redis)
    assert meter.note(delivery(now - 6000)) == pytest.approx(6, abs=0.5)
    assert meter.note(delivery(now + 9000)) == 0
    meter.note(delivery(now - 50_000_000, b'b', due=b'%d' % (now - 6000), sub=b'high'))
    meter.flush(store, last=True)

    whole = queue_waits(redis, NS)['']
    assert (whole.count, whole.counts[0], whole.counts[bucket_of(6)]) == (3, 1, 2)
    assert whole.total == pytest.approx(12, abs=1)
    assert {name: waits.count for name, waits in tenant_waits(redis, NS).items()} == {':a': 2, 'high:b': 1}
    assert redis.hgetall(keys.settings(NS))[b'total:wait:%d:high' % bucket_of(6)] == b'1'


def test_some_tenants_are_told_apart_and_all_are_counted(meter, store, redis):
    now = server_ms(redis)
    for number in range(MOST_TENANTS + 10):
        meter.note(delivery(now, b'%d' % number))
    meter.note(delivery(now, b'x' * 2000))
    meter.flush(store, last=True)
    assert len(tenant_waits(redis, NS)) == MOST_TENANTS
    assert queue_waits(redis, NS)[''].count == MOST_TENANTS + 11


def test_nothing_is_sent_where_nothing_was_counted_or_a_moment_ago(meter, store, redis):
    redis.config_resetstat()
    meter.flush(store, last=True)
    meter.note(delivery(server_ms(redis)))
    meter.flush(store)
    assert not any('eval' in name for name in redis.info('commandstats'))


def test_what_redis_refuses_is_kept(meter, store, redis, caplog):
    now, full = server_ms(redis), Store(redis)
    redis.config_set('maxmemory', 1)
    try:
        for _ in range(3):
            meter.note(delivery(now))
            meter.flush(full, last=True)
    finally:
        redis.config_set('maxmemory', 0)
    meter.flush(Store(Redis(port=1)), last=True)
    assert queue_waits(redis, NS)[''].count == 0
    assert [record.levelname for record in caplog.records] == ['WARNING']
    meter.flush(store, last=True)
    assert queue_waits(redis, NS)[''].count == tenant_waits(redis, NS)[':a'].count == 3
    meter.flush(store, last=True)
    assert queue_waits(redis, NS)[''].count == 3


def test_a_queue_that_redis_refuses_does_not_keep_others_out(meter, store, redis):
    redis.set(keys.settings(keys.namespace('broken')), 'not a hash')
    meter.note(delivery(server_ms(redis))._replace(queue='broken'))
    meter.note(delivery(server_ms(redis)))
    meter.flush(store, last=True)
    assert queue_waits(redis, NS)[''].count == 1


def test_the_clock_follows_the_server_as_closely_as_replies_tell():
    clock = ServerClock()
    clock.set(5_000_000, 100.0, 100.2)
    before = clock._ahead
    assert 4899.8 <= before <= 4900
    clock.set(5_010_100, 110.0, 110.2)      # agrees
    assert 4899.9 <= clock._ahead <= 4900.1
    clock.set(6_000_000, 120.0, 120.0)      # somebody set the server's clock
    assert clock._ahead == 5880
