"""Tasks that note the sub-queue they named, each with a tag that the test gives."""
from __future__ import annotations

import json
import os

from celery import Celery, Task, chain, group
from redis import Redis

import celery_qos
from celery_qos import QoS, SubQueue

app = Celery('sub_queues', broker=os.environ['QOS_TEST_BROKER'], backend=os.environ.get('QOS_TEST_BACKEND') or None)
app.conf.update(result_expires=600, worker_hijack_root_logger=True, result_chord_retry_interval=0.05)
celery_qos.setup(app, QoS(queues=[SubQueue('high', 100, 2), SubQueue('low', 100, 1)]))
notes = Redis(unix_socket_path=os.environ['QOS_TEST_NOTES'], db=2)


class Noting(Task):
    def note(self, tag):
        notes.rpush('notes', json.dumps([tag, (self.request.headers or {}).get('sub_queue')]))


@app.task(bind=True, base=Noting)
def note(self, tag):
    self.note(tag)
    return tag


@app.task(bind=True, base=Noting)
def after(self, result, tag):
    self.note(tag)


@app.task(bind=True, base=Noting, sub_queue='high')
def urgent(self, tag):
    self.note(tag)


@app.task(bind=True, base=Noting)
def nested(self, tag):
    self.note(tag)
    note.delay(f'{tag} > delay')
    urgent.delay(f'{tag} > urgent')
    note.apply_async((f'{tag} > named',), sub_queue='low')
    group(note.s(f'{tag} > group')).delay()
    chain(note.s(f'{tag} > chain'), after.s(f'{tag} > chain tail')).delay()


@app.task(bind=True, base=Noting, max_retries=2)
def retried(self, tag, sub_queues=()):
    self.note(f'{tag} {self.request.retries}')
    if self.request.retries < 2:
        options = {'sub_queue': sub_queues[self.request.retries]} if sub_queues else {}
        raise self.retry(countdown=0, **options)


@app.task(bind=True, base=Noting, max_retries=1, sub_queue='high')
def urgent_retried(self, tag):
    self.note(f'{tag} {self.request.retries}')
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(bind=True, base=Noting)
def replaced(self, tag):
    self.note(tag)
    raise self.replace(note.s(f'{tag} > replacement'))
