"""Tasks that last as long as they are told and write down for how long they kept the worker busy."""
from __future__ import annotations

import json
import os
from functools import cache
from time import perf_counter, sleep

from celery import Celery
from redis import Redis

app = Celery('timed', broker=os.environ['QOS_TEST_BROKER'])
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True,
                **json.loads(os.environ.get('QOS_TEST_CONF', '{}')))


@cache
def book(pid: int) -> Redis:
    return Redis(unix_socket_path=os.environ['QOS_TEST_LEDGER'], db=2)


def run(tenant: str, seconds: float) -> None:
    began = perf_counter()
    sleep(seconds)
    with book(os.getpid()).pipeline() as pipe:
        pipe.hincrbyfloat('seconds', tenant, perf_counter() - began)
        pipe.hincrby('count', tenant, 1)
        pipe.execute()


@app.task(tenant_key='tenant')
def early(tenant: str, seconds: float) -> None:
    run(tenant, seconds)


@app.task(tenant_key='tenant', acks_late=True)
def late(tenant: str, seconds: float) -> None:
    run(tenant, seconds)
