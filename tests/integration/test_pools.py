"""Every pool, early and late ack: each task runs once, in its tenant's order, and leaves nothing behind."""
from __future__ import annotations

from collections import Counter

import pytest

from celery_qos import keys
from celery_qos.observe.waits import queue_waits, tenant_waits, totals

from .ledger import Ledger
from .pools import EVERY_POOL


@pytest.fixture(params=EVERY_POOL)
def pool(request):
    if request.param in ('gevent', 'eventlet'):
        pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize('ack', ['early', 'late'])
def test_each_task_runs_once_and_nothing_is_left(server, pool, ack):
    ledger = Ledger(server)
    with ledger.worker(pool) as worker:
        with ledger.publishing() as send:
            for number in range(200):
                send(f't{number % 7}', f'{number}', task=ack)
        ran = Counter(ledger.until('end', 200))
        ledger.until_idle()
        worker.terminate()
        assert worker.wait() == 0
    assert ran == Counter(str(number) for number in range(200))
    assert ledger.stray_keys() == []
    # A worker that ends tells of the last waits too.
    ns = keys.namespace('celery')
    assert queue_waits(ledger.redis, ns)[''].count == totals(ledger.redis, ns)[''].count == 200
    assert {name: waits.count for name, waits in tenant_waits(ledger.redis, ns).items()} == Counter(
        f':t{number % 7}' for number in range(200))


def test_a_tenant_with_one_task_is_served_next(server, pool):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.publishing() as send:
        for number in range(300):
            send('big', f'big{number}', seconds=0.002)
    with ledger.worker(pool, concurrency=2) as worker:
        ledger.until('start', 20)
        at = len(ledger.marks('start'))
        ledger.send('small', 'small')
        started = ledger.until('start', 301)
        worker.terminate()
        worker.wait()
    # What was delivered, one turn, and what started while the test counted and published.
    assert started.index('small') - at <= 2 * 2 + 2 + 40


@pytest.mark.parametrize('ack', ['early', 'late'])
def test_three_workers_share_a_queue(server, ack):
    ledger = Ledger(server)
    with ledger.worker('solo'), ledger.worker('threads'), ledger.worker('prefork'):
        with ledger.publishing() as send:
            for number in range(300):
                send(f't{number % 3}', f'{number}', seconds=0.005, task=ack)
        ran = Counter(ledger.until('end', 300))
        ledger.until_idle()
    assert ran == Counter(str(number) for number in range(300))
    assert len({event['pid'] for event in ledger.events}) >= 3


def test_a_tasks_slot_is_free_again_at_once_with_late_ack_and_no_prefetch(server, pool):
    """The stock transport lets up to two seconds pass between two such tasks (celery#4378)."""
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.worker(pool, concurrency=1):
        with ledger.publishing() as send:
            for number in range(30):
                send('t', f'{number}', task='late')
        ledger.until('end', 30)
    starts = [event['at'] for event in ledger.events if event['event'] == 'start']
    gaps = sorted(later - earlier for earlier, later in zip(starts, starts[1:]))
    assert gaps[-3] < 0.1, gaps
