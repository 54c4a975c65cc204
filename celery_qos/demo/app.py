"""The Celery app of the demo and its one task."""
from __future__ import annotations

from time import sleep, time
from typing import Optional

from celery import Celery

from .load import TASK_SECONDS
from .records import Records

__all__ = ('make_app', 'QUEUE', 'TASK')

QUEUE = 'celery'
TASK = 'demo.work'


def make_app(broker_url: str, records: Optional[Records] = None) -> Celery:
    """The app on a broker; the same for each transport.

    Arguments:
        records: where the worker notes what it does; not needed to send tasks.
    """
    app = Celery('celery-qos-demo', broker=broker_url, set_as_current=False)
    app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, worker_prefetch_multiplier=1)

    # Not shared: each transport's app has a task of its own.
    @app.task(name=TASK, tenant_key='tenant', shared=False)
    def work(tenant: str, number: int, published: float) -> None:
        assert records is not None
        records.started(number, time() - published)
        sleep(TASK_SECONDS)
        records.finished(tenant)

    return app
