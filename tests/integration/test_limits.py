"""Limits, with real workers: over several of them, at run time, and for tasks that publish many others."""
from __future__ import annotations

import pytest

import celery_qos
from celery_qos import keys

from ..until import until
from .ledger import Ledger


@pytest.fixture
def ledger(server):
    return Ledger(server, {'worker_prefetch_multiplier': 1})


@pytest.fixture
def control(ledger):
    return celery_qos.control(ledger.app)


def most_at_once(ledger, mark):
    """How many tasks with that mark ran at a time."""
    now = most = 0
    for each in sorted((each for each in ledger.events if each['mark'] == mark), key=lambda each: each['at']):
        now += 1 if each['event'] == 'start' else -1
        most = max(most, now)
    return most


def fill(ledger, count, **options):
    with ledger.publishing() as send:
        for _ in range(count):
            send(**options)


@pytest.mark.parametrize('task', ['early', 'late'])
def test_a_cap_holds_over_all_workers_and_a_burst_is_lent(ledger, control, task):
    control.set_tenant('a', max_in_flight=2, burst=3)
    with ledger.worker('prefork', 2), ledger.worker('threads', 4), ledger.worker('gevent', 4):
        fill(ledger, 30, tenant='a', mark='alone', seconds=0.05, task=task)
        ledger.until('end', 30)
        assert most_at_once(ledger, 'alone') == 5
        control.set_tenant('a', burst=0)
        fill(ledger, 20, tenant='a', mark='capped', seconds=0.05, task=task)
        fill(ledger, 40, tenant='b', mark='other', seconds=0.05, task=task)
        ledger.until('end', 90)
        assert most_at_once(ledger, 'capped') == 2
        assert most_at_once(ledger, 'other') > 4


def test_a_rate_is_kept_to_over_all_workers(ledger, control):
    control.set_tenant('a', rate='20/s')
    with ledger.worker('prefork', 1), ledger.worker('threads', 2):
        fill(ledger, 50, tenant='a', mark='a')
        ledger.until('start', 50)
        starts = sorted(each['at'] for each in ledger.events if each['event'] == 'start')[2:]
        assert (len(starts) - 1) / (starts[-1] - starts[0]) == pytest.approx(20, rel=0.1)


def test_another_rate_acts_at_once(ledger, control):
    control.set_tenant('a', rate='1/h')
    with ledger.worker('threads', 2):
        fill(ledger, 30, tenant='a')
        ledger.until('start', 1)
        control.set_tenant('a', rate='100/s')
        ledger.until('start', 30, timeout=3)


@pytest.mark.parametrize('capacity', [1, 3])
def test_the_capacity_of_egress(ledger, control, capacity):
    control.set_egress(capacity=capacity)
    with ledger.worker('threads', 4), ledger.worker('gevent', 4):
        fill(ledger, 20, tenant='a', mark='a', seconds=0.03, task='late')
        ledger.until('end', 20)
        assert most_at_once(ledger, 'a') == capacity


@pytest.mark.parametrize('way', ['delay', 'group', 'chord', 'chunks'])
def test_a_task_that_publishes_too_many_is_told(server, way):
    backend = {'result_backend': server.url('redis', 1)} if way == 'chord' else {}
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1, **backend})
    control = celery_qos.control(ledger.app)
    control.set_tenant('a', capacity=3)
    with ledger.worker('threads', 1, options=('-I', 'tests.integration.apps.bulk')):
        tenant = {'tenant': 'a'} if way == 'chunks' else {}
        ledger.app.send_task('tests.integration.apps.bulk.publishes', (way, 10), **tenant)
        assert ledger.until('refused', 1) == [f'{way} a 3']
        # Those of a group are published together, so each that finds no room is counted.
        assert control.counters()['reject', ''] >= 1
        ledger.until_idle()
        assert len(ledger.marks('end')) < 10 and 'body' not in ledger.marks('end')


def test_a_retry_finds_room_where_there_is_none(ledger, control, redis):
    control.set_tenant('a', capacity=2)
    with ledger.worker('solo', 1, options=('-I', 'tests.integration.apps.bulk')):
        ledger.app.send_task('tests.integration.apps.bulk.fills_and_retries', ('a',), tenant='a')
        until(lambda: 'try 1' in ledger.marks('start'))
        ledger.until_idle()
    assert redis.hget(keys.settings(keys.namespace('celery')), 'count:reject:') == b'1'
