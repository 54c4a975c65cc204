"""A worker's app that never imports celery_qos: the scheme of its broker URL is all there is."""
from __future__ import annotations

import os
import time

from celery import Celery

app = Celery('basic', broker=os.environ['QOS_TEST_BROKER'], backend=os.environ.get('QOS_TEST_BACKEND') or None)
app.conf.update(broker_connection_retry_on_startup=True, result_expires=600)


@app.task
def add(x, y):
    return x + y


@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task(bind=True)
def delivery(self):
    """What the worker knows of how the task came."""
    return {'headers': self.request.headers, 'delivery_info': self.request.delivery_info,
            'hostname': self.request.hostname, 'pid': os.getpid()}


@app.task(tenant_key='account')
def sync(account, what='all'):
    return [account, what]
