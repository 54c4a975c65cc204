"""A worker's app whose tasks write down what they know of their delivery."""
from __future__ import annotations

import json
import os

from celery import Celery
from celery.exceptions import Reject
from redis import Redis

app = Celery('known', broker=os.environ['QOS_TEST_BROKER'])
app.conf.update(task_ignore_result=True)


def write(mark, request):
    with Redis(unix_socket_path=os.environ['QOS_TEST_LEDGER'], db=2) as client:
        client.rpush('known', json.dumps({
            'mark': mark, 'headers': request.headers,
            **{name: request.get(name) for name in ('tenant', 'sub_queue', 'queue_wait', 'deliveries')}}))


@app.task(bind=True)
def look(self, mark):
    write(mark, self.request)


@app.task(bind=True, acks_late=True)
def again(self):
    """Delivered again, retried, replaced; publishes; calls others directly and eagerly."""
    if self.request.deliveries == 1 and not self.request.retries:
        raise Reject('once', requeue=True)
    write('retried' if self.request.retries else 'redelivered', self.request)
    if not self.request.retries:
        raise self.retry(countdown=0.5)
    look.delay('child')
    look('direct')
    look.apply(('eager',))
    raise self.replace(look.si('replacement') | look.si('chained'))
