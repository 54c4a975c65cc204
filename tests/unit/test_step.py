"""What the worker tells of itself to its lease."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.concurrency.gevent import TaskPool as GeventPool
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.thread import TaskPool as ThreadPool

from celery_qos.worker.step import _at_work_on


@pytest.mark.parametrize('kind, late, count', [
    (ThreadPool, True, 8), (GeventPool, True, 8), (GeventPool, False, 1), (PreforkPool, True, 1)])
def test_how_many_tasks_a_pool_may_be_at_work_on(kind, late, count):
    """Prefork's has not started, or has stopped already; gevent's is idle when it is asked."""
    pool = kind(8)
    if kind is not PreforkPool:
        pool.on_start()
    app = SimpleNamespace(tasks={'sync': SimpleNamespace(acks_late=late)})
    assert _at_work_on(SimpleNamespace(app=app, pool=pool)) == count
