"""A worker's app whose tasks write down when they start and end, in a Redis list that the test reads."""
from __future__ import annotations

import json
import os
import time

from celery import Celery
from celery.exceptions import Reject
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

app = Celery('ledger', broker=os.environ['QOS_TEST_BROKER'], backend=os.environ.get('QOS_TEST_BACKEND') or None)
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True)
app.conf.update(json.loads(os.environ.get('QOS_TEST_CONF', '{}')))

LEDGER = 'ledger'


def write(event, request, mark):
    line = json.dumps({
        'event': event, 'mark': mark, 'id': request.id, 'pid': os.getpid(), 'at': time.time(),
        'worker': request.hostname,
        'redelivered': bool((request.delivery_info or {}).get('redelivered'))})
    # A test that kills connections must not make the tasks fail by it. redis-py itself does not retry its handshake.
    for tries_left in range(3, -1, -1):
        try:
            with Redis(unix_socket_path=os.environ['QOS_TEST_LEDGER'], db=2) as client:
                client.rpush(LEDGER, line)
            return
        except RedisConnectionError:
            if not tries_left:
                raise


def run(task, mark, seconds):
    write('start', task.request, mark)
    time.sleep(seconds)
    write('end', task.request, mark)


@app.task(bind=True, tenant_key='tenant')
def early(self, tenant, mark='', seconds=0.0):
    run(self, mark, seconds)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def late(self, tenant, mark='', seconds=0.0):
    run(self, mark, seconds)


@app.task(tenant_key='tenant')
def nothing(tenant, mark='', seconds=0.0):
    """Takes no time, as it writes nothing down."""


def run_until_told(task, mark):
    write('start', task.request, mark)
    with Redis(unix_socket_path=os.environ['QOS_TEST_LEDGER'], db=2) as client:
        while not client.exists(f'go:{mark}'):
            time.sleep(0.02)
    write('end', task.request, mark)


@app.task(bind=True, tenant_key='tenant')
def held_early(self, tenant, mark='', seconds=0.0):
    """Ends when `Ledger.let_end` says so."""
    run_until_told(self, mark)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def held_late(self, tenant, mark='', seconds=0.0):
    """Ends when `Ledger.let_end` says so."""
    run_until_told(self, mark)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def picky(self, tenant, mark='', seconds=0.0):
    """Runs only where it is delivered again."""
    if not self.request.delivery_info.get('redelivered'):
        write('rejected', self.request, mark)
        raise Reject('once', requeue=True)
    run(self, mark, seconds)


@app.task(bind=True, tenant_key='tenant')
def retried(self, tenant, mark='', seconds=0.0):
    """Ends the second time."""
    if not self.request.retries:
        write('retry', self.request, mark)
        raise self.retry(countdown=seconds)
    write('end', self.request, mark)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def hopeless(self, tenant, mark='', seconds=0.0):
    raise Reject('always', requeue=True)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def refused(self, tenant, mark='', seconds=0.0):
    raise Reject('for good', requeue=False)


@app.task(bind=True, tenant_key='tenant', acks_late=True)
def busy(self, tenant, mark='', seconds=0.0):
    """Never lets go of the processor, nor of a green pool's loop."""
    write('start', self.request, mark)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))
    write('end', self.request, mark)
