"""The Celery app of all benchmarks; the environment says on which broker. Its tasks have one signature.

Each names its tenant, as an app of celery-qos does; on other brokers nobody looks at it. Nothing here imports
celery-qos: on other brokers it must not be there.
"""
from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from .records import append

__all__ = ('app', 'noop', 'work')

app = Celery('benchmarks', broker=os.environ['BENCH_BROKER'])
app.conf.update(
    broker_transport=os.environ.get('BENCH_TRANSPORT') or None,
    task_ignore_result=True,
    task_acks_late=os.environ.get('BENCH_LATE') == '1',
    worker_prefetch_multiplier=int(os.environ.get('BENCH_MULTIPLIER', 4)),
    broker_connection_retry_on_startup=True,
)
#: Where tasks note that they ran; only workers have it.
_records = os.open(os.environ['BENCH_RECORDS'], os.O_WRONLY | os.O_APPEND) if 'BENCH_RECORDS' in os.environ else -1


@app.task(tenant_key='tenant')
def noop(tenant: int, number: int, payload: str = '') -> None:
    """Does nothing."""
    append(_records, number, monotonic())


@app.task(tenant_key='tenant')
def work(tenant: str, number: int, seconds: float) -> None:
    """Takes that long."""
    started = monotonic()
    if seconds:
        sleep(seconds)
    append(_records, number, started)


@worker_ready.connect
def _wait_for_go(**kwargs: Any) -> None:
    """Say that the worker is ready, and hold it before its first task until it may start."""
    folder = Path(os.environ['BENCH_FOLDER'])
    (folder / 'ready').touch()
    while not (folder / 'go').exists():
        sleep(0.005)
