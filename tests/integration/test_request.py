"""What a running task knows of its delivery, on every pool."""
from __future__ import annotations

import json

import pytest
from celery import Celery

from tests.until import until

from .pools import EVERY_POOL
from .workers import Worker


@pytest.mark.parametrize('pool', EVERY_POOL)
def test_a_task_knows_its_tenant_its_wait_and_how_often_it_was_delivered(server, pool):
    if pool in ('gevent', 'eventlet'):
        pytest.importorskip(pool)
    book = server.client(db=2)
    app = Celery('publisher', broker=server.url('qos'), set_as_current=False)
    name = 'tests.integration.apps.known'
    app.send_task(f'{name}.look', ('early',), tenant='acme')
    began, _ = server.client().time()
    with Worker(server, pool, app=name, env={'QOS_TEST_LEDGER': server.socket}, concurrency=2):
        app.send_task(f'{name}.look', ('delayed',), tenant='', countdown=1)
        app.send_task(f'{name}.again', tenant=('acme', 'alice'))
        until(lambda: book.llen('known') >= 9)
    app.close()
    known = {each['mark']: each for each in map(json.loads, book.lrange('known', 0, -1))}

    def of(mark):
        return known[mark]['tenant'], known[mark]['sub_queue'], known[mark]['deliveries']

    assert of('early') == ('acme', '', 1)
    # It was there before the worker.
    assert 0.3 < known['early']['queue_wait'] < server.client().time()[0] + 2 - began
    assert of('delayed') == ('', '', 1)
    assert 0 <= known['delayed']['queue_wait'] < 1
    assert of('redelivered') == (['acme', 'alice'], '', 2)
    for mark in 'retried', 'child', 'replacement', 'chained':
        assert of(mark) == (['acme', 'alice'], '', 1)
        assert 0 <= known[mark]['queue_wait'] < 5
        assert set(known[mark]['headers']) == {'tenant'}
    for mark in 'direct', 'eager':
        assert (known[mark]['queue_wait'], known[mark]['deliveries']) == (None, None)
