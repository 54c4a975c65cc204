"""Workers that die, or lose their connection: nothing is lost, and only a kill makes a task run twice."""
from __future__ import annotations

from collections import Counter

import pytest

from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .pools import POOLS

NS = keys.namespace('celery')
SHORT_LEASE = {'broker_transport_options': {'qos': {'lease_seconds': 2}}}


@pytest.mark.parametrize('pool', POOLS)
def test_the_tasks_of_a_killed_worker_are_delivered_again(server, pool):
    ledger = Ledger(server, SHORT_LEASE)
    with ledger.worker(pool) as doomed:
        for number in range(6):
            ledger.send('t', f'{number}', seconds=2, task='late')
        ledger.until('start', 1)
        doomed.kill()
        begun = ledger.marks('start')
        with ledger.worker('threads', concurrency=8) as heir:
            ended = ledger.until('end', 6)
            assert 'the lease of' in heir.log()
            ledger.until_idle()
    assert Counter(ended) == Counter(str(number) for number in range(6))
    again = [event for event in ledger.events if event['event'] == 'end' and event['mark'] in begun]
    assert again and all(event['redelivered'] for event in again)


def test_a_solo_worker_has_settled_what_it_finished_before_it_is_killed(server):
    """It runs its tasks inside the event loop, which must turn between them."""
    ledger = Ledger(server, SHORT_LEASE)
    for number in range(4):
        ledger.send('t', f'{number}', seconds=0.5, task='late')
    with ledger.worker('solo', 1) as doomed:
        ledger.until('start', 4)
        doomed.kill()
        with ledger.worker('threads'):
            ledger.until('end', 4)
            ledger.until_idle()
    again = Counter(ledger.marks('start')) - Counter(str(number) for number in range(4))
    assert set(again) <= {'3'}, again


def test_the_default_lease_is_fifteen_seconds(server):
    ledger = Ledger(server)
    with ledger.worker('solo') as doomed, ledger.worker('solo'):
        leases = keys.leases(keys.namespace('celery'))
        until(lambda: ledger.redis.zcard(leases) == 2)
        now_ms = ledger.redis.time()[0] * 1000
        assert all(8_000 <= end - now_ms <= 13_000 for _, end in ledger.redis.zrange(leases, 0, -1, withscores=True))
        doomed.kill()
        until(lambda: ledger.redis.zcard(leases) == 1, timeout=16)


@pytest.mark.parametrize('pool', ['solo', 'gevent', 'prefork'])
@pytest.mark.parametrize('task', ['late', 'busy'])
def test_a_task_longer_than_the_lease_runs_once(server, pool, task):
    ledger = Ledger(server, SHORT_LEASE)
    with ledger.worker(pool), ledger.worker('threads'):
        for number in range(2):
            ledger.send('t', f'{number}', seconds=4, task=task)
        ledger.until('end', 2)
        ledger.until_idle()
    assert Counter(ledger.marks('start')) == Counter(['0', '1'])


@pytest.mark.parametrize('ack', ['early', 'late'])
@pytest.mark.parametrize('pool', POOLS)
def test_a_reconnect_runs_nothing_twice(server, pool, ack):
    ledger = Ledger(server)
    with ledger.worker(pool) as worker:
        for number in range(10):
            ledger.send('t', f'{number}', seconds=0.3 if pool == 'solo' else 1.2, task=ack)
        ledger.until('start', 1)
        for kind in 'normal', 'pubsub':
            ledger.redis.client_kill_filter(_type=kind, skipme=True)
        ledger.until('end', 10)
        ledger.until_idle()
        worker.terminate()
        assert worker.wait() == 0
        log = worker.log()
    assert Counter(ledger.marks('start')) == Counter(str(number) for number in range(10)), log
    assert ledger.stray_keys() == []


def test_what_ends_while_the_connection_is_lost_does_not_run_again(server):
    """Celery forgets a task as it ends, and acks it a moment later, which may be after the reconnect."""
    ledger = Ledger(server)
    with ledger.worker('threads', 10) as worker:
        for number in range(400):
            ledger.send('t', f'{number}', seconds=0.02, task='late')
        for share in 60, 120, 180, 240:
            ledger.until('end', share)
            for kind in 'normal', 'pubsub':
                ledger.redis.client_kill_filter(_type=kind, skipme=True)
        ledger.until('end', 400)
        ledger.until_idle()
        log = worker.log()
    assert 'had ended' not in log
    assert {mark: count for mark, count in Counter(ledger.marks('start')).items() if count > 1} == {}


def test_what_has_the_id_of_a_running_task_is_delivered_again_after_a_reconnect(server):
    """As a retry has, and what replaces a task."""
    ledger = Ledger(server)
    with ledger.worker('prefork', 1) as worker:
        ledger.send('t', 'runs', task='held_late', task_id='same')
        ledger.until('start', 1)
        ledger.send('t', 'waits', task_id='same')
        until(lambda: ledger.redis.xpending(keys.egress(NS), keys.GROUP)['pending'] == 2)
        for kind in 'normal', 'pubsub':
            ledger.redis.client_kill_filter(_type=kind, skipme=True)
        worker.wait_for('are delivered again')
        ledger.let_end('runs')
        ledger.until('end', 2)
        ledger.until_idle()
    assert ledger.marks('start') == ['runs', 'waits']


@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_a_worker_goes_on_after_all_data_was_lost(server, pool):
    ledger = Ledger(server, SHORT_LEASE)
    with ledger.worker(pool) as worker:
        ledger.send('t', 'before')
        ledger.until('end', 1)
        ledger.redis.flushdb()
        ledger.redis.script_flush()
        until(lambda: ledger.redis.exists(keys.slots(keys.namespace('celery'))), 10)
        ledger.send('t', 'after')
        ledger.until('end', 2, timeout=10)
        assert worker.returncode is None


@pytest.mark.parametrize('state', ['a replica', 'full'])
def test_a_worker_waits_while_redis_takes_no_writes(server, state):
    ledger = Ledger(server, SHORT_LEASE)
    refuse, allow, seen = {
        'a replica': (lambda: ledger.redis.replicaof('127.0.0.1', 1), lambda: ledger.redis.replicaof('NO', 'ONE'),
                      'Cannot connect to .*read only replica'),
        'full': (lambda: ledger.redis.config_set('maxmemory', 1), lambda: ledger.redis.config_set('maxmemory', 0),
                 '(?s)Connected to.*Connected to'),
    }[state]
    with ledger.worker('solo') as worker:
        try:
            refuse()
            ledger.redis.client_kill_filter(_type='normal', skipme=True)
            worker.wait_for(seen)
        finally:
            allow()
        ledger.send('t', 'after')
        ledger.until('end', 1, timeout=10)


def test_a_worker_goes_on_after_its_group_was_destroyed(server):
    ledger = Ledger(server, SHORT_LEASE)
    with ledger.worker('solo') as worker:
        # Without a read that it interrupts, it is mended before anybody notices.
        until(lambda: any(client['cmd'] == 'xreadgroup' and 'b' in client['flags']
                          for client in ledger.redis.client_list()))
        ledger.redis.xgroup_destroy(keys.egress(keys.namespace('celery')), keys.GROUP)
        worker.wait_for('made anew')
        ledger.send('t', 'after')
        ledger.until('end', 1, timeout=10)
