"""What a tenant may have in flight holds over all workers and on every pool, with early and late ack, to any end."""
from __future__ import annotations

import signal
from collections import Counter

import pytest

from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .pools import EVERY_POOL, POOLS

ENDS = ('-I', 'tests.integration.apps.ends')

both_acks = pytest.mark.parametrize('late', [False, True], ids=['early', 'late'])


def limited(server, most: int, lease_seconds: float = 15, late: bool = False, algorithm: str = 'wrr') -> Ledger:
    """A ledger whose tenant 't' may have `most` tasks in flight."""
    tenants = {'t': {'max_in_flight': most}} if most else {}
    qos = {'algorithm': algorithm, 'lease_seconds': lease_seconds, 'tenants': tenants}
    return Ledger(server, {'broker_transport_options': {'qos': qos}, 'task_acks_late': late})


def most_at_once(ledger: Ledger) -> int:
    now = most = 0
    for event in sorted(ledger.events, key=lambda event: event['at']):
        now += {'start': 1, 'end': -1}[event['event']]
        most = max(most, now)
    return most


def send(ledger: Ledger, end: str, **options) -> None:
    ledger.app.send_task(f'tests.integration.apps.ends.{end}', ('t', end), tenant='t', **options)


@both_acks
@pytest.mark.parametrize('pool', EVERY_POOL)
def test_no_more_run_at_once_than_allowed(server, pool, late):
    if pool in ('gevent', 'eventlet'):
        pytest.importorskip(pool)
    most = 1 if pool == 'solo' else 2
    ledger = limited(server, most, late=late)
    with ledger.worker(pool, 4) as one, ledger.worker(pool, 4) as other:
        with ledger.publishing() as publish:
            for number in range(12):
                publish('t', f'{number}', seconds=0.1)
        ran = Counter(ledger.until('end', 12))
        ledger.until_idle()
        for worker in one, other:
            worker.terminate()
        assert {one.wait(), other.wait()} == {0}
    assert ran == Counter(map(str, range(12)))
    assert most_at_once(ledger) == most
    assert ledger.stray_keys() == []


@both_acks
@pytest.mark.parametrize('end, pool', [
    ('fails', 'prefork'), ('fails', 'gevent'), ('retries', 'prefork'),
    pytest.param('fails', 'threads', marks=pytest.mark.once), pytest.param('fails', 'solo', marks=pytest.mark.once)])
def test_a_task_that_fails_makes_room(server, pool, end, late):
    ledger = limited(server, 1, late=late)
    with ledger.worker(pool, options=ENDS) as worker:
        send(ledger, end)
        ledger.send('t', 'next')
        ledger.until('end', 1)
        ledger.until_idle()
        worker.terminate()
        assert worker.wait() == 0
    assert ledger.stray_keys() == []


@pytest.mark.parametrize('pool', ['threads', 'gevent'])
@pytest.mark.parametrize('end', ['exits', 'starves'])
def test_a_task_of_whose_end_the_pool_says_nothing_makes_room(server, pool, end):
    ledger = limited(server, 1)
    with ledger.worker(pool, options=ENDS):
        send(ledger, end)
        ledger.send('t', 'next')
        ledger.until('end', 1)


@both_acks
@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_a_hard_time_limit_makes_room(server, pool, late):
    ledger = limited(server, 1, late=late)
    with ledger.worker(pool):
        ledger.send('t', 'long', seconds=60, time_limit=0.5)
        ledger.send('t', 'next')
        assert ledger.until('end', 1) == ['next']
        ledger.until_idle()


@both_acks
@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_a_termination_makes_room(server, pool, late):
    ledger = limited(server, 1, late=late)
    with ledger.worker(pool):
        ledger.send('t', 'long', seconds=60, task_id='long')
        ledger.send('t', 'next')
        ledger.until('start', 1)
        ledger.tell('revoke', 'long', terminate=True)
        assert ledger.until('end', 1) == ['next']
        ledger.until_idle()


@both_acks
def test_a_killed_child_makes_room(server, late):
    """Celery gives a child's last words ten seconds to arrive."""
    ledger = limited(server, 1, late=late)
    with ledger.worker('prefork', options=ENDS):
        send(ledger, 'dies')
        ledger.send('t', 'next')
        ledger.until('end', 1)
        ledger.until_idle()


@both_acks
def test_a_child_is_replaced_after_each_task(server, late):
    ledger = limited(server, 1, late=late)
    with ledger.worker('prefork', options=('--max-tasks-per-child', '1')):
        for number in range(5):
            ledger.send('t', f'{number}')
        ledger.until('end', 5)
        ledger.until_idle()
    assert most_at_once(ledger) == 1


@both_acks
@pytest.mark.parametrize('pool', POOLS)
def test_revoked_and_expired_tasks_make_room(server, pool, late):
    ledger = limited(server, 2, late=late)
    with ledger.worker(pool, concurrency=1) as worker:
        ledger.send('t', 'long', seconds=0.7)
        ledger.send('t', 'revoked', task_id='revoked')
        ledger.until('start', 1)
        ledger.tell('revoke', 'revoked')
        ledger.send('t', 'expired', expires=0.1)
        ledger.send('t', 'next')
        until(lambda: 'next' in ledger.marks('end'))
        ledger.until_idle()
        worker.terminate()
        assert worker.wait() == 0
    assert ledger.stray_keys() == []


@both_acks
@pytest.mark.parametrize('pool', POOLS)
def test_what_ends_while_the_connection_is_lost_makes_room(server, pool, late):
    most = 1 if pool == 'solo' else 2
    ledger = limited(server, most, late=late)
    with ledger.worker(pool) as worker:
        for number in range(6):
            ledger.send('t', f'{number}', seconds=0.4)
        # Not while a task writes down its start, over a connection of that server too.
        ledger.until('start', most)
        for kind in 'normal', 'pubsub':
            ledger.redis.client_kill_filter(_type=kind, skipme=True)
        ran = Counter(ledger.until('end', 6))
        ledger.until_idle()
        worker.terminate()
        assert worker.wait() == 0
    assert ran == Counter(map(str, range(6)))
    assert most_at_once(ledger) == most
    assert ledger.stray_keys() == []


def test_what_celery_cancels_as_the_connection_is_lost_runs_again(server):
    ledger = limited(server, 1, late=True)
    ledger.conf['worker_cancel_long_running_tasks_on_connection_loss'] = True
    with ledger.worker('prefork'):
        ledger.send('t', 'cancelled', seconds=2)
        ledger.until('start', 1)
        for kind in 'normal', 'pubsub':
            ledger.redis.client_kill_filter(_type=kind, skipme=True)
        ledger.until('end', 1)
        ledger.until_idle()
    assert len(ledger.marks('start')) == 2


@both_acks
@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_a_worker_that_stops_takes_no_place_with_it(server, pool, late):
    ledger = limited(server, 1, late=late)
    with ledger.worker(pool) as worker:
        ledger.send('t', 'last', seconds=0.5)
        ledger.until('start', 1)
        worker.terminate()
        assert worker.wait() == 0
    assert ledger.marks('end') == ['last']
    assert ledger.stray_keys() == []


@pytest.mark.parametrize('pool', ['prefork', 'threads'])
def test_a_worker_that_stops_at_once_takes_no_place_with_it(server, pool):
    ledger = limited(server, 1)
    with ledger.worker(pool) as worker:
        ledger.send('t', 'cut off', seconds=3)
        ledger.until('start', 1)
        worker.signal(signal.SIGQUIT)
        worker.wait()
    until(lambda: ledger.stray_keys() == [], 1)


@both_acks
@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_the_places_of_a_killed_worker_are_free_within_its_lease(server, pool, late):
    ledger = limited(server, 1, lease_seconds=2, late=late)
    with ledger.worker(pool) as doomed:
        ledger.send('t', 'a', seconds=60)
        ledger.send('t', 'b')
        ledger.until('start', 1)
        with ledger.worker('threads'):
            assert ledger.marks('start') == ['a']
            doomed.kill()
            until(lambda: len(ledger.marks('start')) == 2, 4)


@both_acks
@pytest.mark.parametrize('pool', POOLS)
def test_the_server_learns_how_long_tasks_take(server, pool, late):
    ledger = limited(server, 0, late=late, algorithm='dwrr')
    averages = keys.averages(keys.namespace('celery'))
    with ledger.worker(pool, 1):
        ledger.send('t', 'a', seconds=0.3)
        ledger.send('t', 'b', seconds=0.3)
        seconds = until(lambda: ledger.redis.hget(averages, 'tenant:t'))
        assert 0.29 < float(seconds) < 0.6
        ledger.until('end', 2)
        ledger.until_idle()
