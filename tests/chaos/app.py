"""The app of workers and producers; its URLs and settings come from the environment."""
from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, signals

from .ledger import ENDED, RECEIVED, SENT, STARTED, Book
from .settings import Setup

__all__ = ('app', 'book', 'early', 'late', 'part', 'whole')

setup = Setup.read()
book = Book(setup.ledger)
app = Celery('chaos', broker=setup.broker, backend=setup.backend)
app.conf.update(setup.conf)


def name_of(request: Any) -> str:
    """Of the worker that has it."""
    return request.hostname.partition('@')[2]


@signals.task_received.connect(weak=False)
def on_received(request: Any, **kwargs: Any) -> None:
    book.write((RECEIVED, request.id, time.time(), name_of(request)))


@signals.before_task_publish.connect(sender='whole', weak=False)
def on_body(headers: Any, **kwargs: Any) -> None:
    book.write((SENT, headers['id'], time.time()))


def work(task: Any, seconds: float, retries: int, countdown: float) -> None:
    """Take so long; retry where that is left to do."""
    request = task.request
    whom = request.retries, name_of(request), os.getpid()
    redelivered = int(bool((request.delivery_info or {}).get('redelivered')))
    book.write((STARTED, request.id, time.time(), *whom, redelivered))
    if seconds:
        time.sleep(seconds)
    if request.retries < retries:
        book.write((ENDED, request.id, time.time(), *whom, 'retry'))
        raise task.retry(countdown=countdown, max_retries=None)
    book.write((ENDED, request.id, time.time(), *whom, 'done'))


@app.task(bind=True, name='early')
def early(self: Any, seconds: float = 0.0, retries: int = 0, countdown: float = 0.0) -> None:
    work(self, seconds, retries, countdown)


@app.task(bind=True, name='late', acks_late=True, reject_on_worker_lost=True)
def late(self: Any, seconds: float = 0.0, retries: int = 0, countdown: float = 0.0) -> None:
    work(self, seconds, retries, countdown)


@app.task(bind=True, name='part', acks_late=True, reject_on_worker_lost=True, ignore_result=False)
def part(self: Any, seconds: float = 0.0) -> int:
    """One of a chord's."""
    work(self, seconds, 0, 0.0)
    return 1


@app.task(bind=True, name='whole', acks_late=True, reject_on_worker_lost=True)
def whole(self: Any, results: list[int]) -> None:
    """A chord's body."""
    work(self, 0.0, 0, 0.0)
