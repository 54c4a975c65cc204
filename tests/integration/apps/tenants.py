"""Tasks that note the tenant they ran for, each with a tag that the test gives."""
from __future__ import annotations

import json
import os
import signal
import time

from celery import Celery, Task, chain, chord, group, shared_task
from redis import Redis

app = Celery('tenants', broker=os.environ['QOS_TEST_BROKER'], backend=os.environ.get('QOS_TEST_BACKEND') or None)
app.conf.update(result_expires=600, task_send_sent_event=False, worker_hijack_root_logger=True,
                result_chord_retry_interval=0.05, **json.loads(os.environ.get('QOS_TEST_CONF', '{}')))
notes = Redis(unix_socket_path=os.environ['QOS_TEST_NOTES'], db=2)


class Noting(Task):
    def note(self, tag):
        headers = self.request.headers or {}
        notes.rpush('notes', json.dumps([tag, headers.get('tenant')]))


@app.task(bind=True, base=Noting)
def note(self, tag):
    self.note(tag)
    return tag


@app.task(bind=True, base=Noting)
def after(self, result, tag='after'):
    """A callback: takes what the task before it returned."""
    self.note(tag)
    return tag


@app.task(bind=True, base=Noting)
def errback(self, task_id, tag='errback'):
    """A bound task is published as an errback, in place of being called."""
    self.note(tag)


@app.task
def called_errback(request, exc, traceback):
    """An errback of the new style is called by the worker and may publish."""
    note.delay('published by a called errback')


@app.task(bind=True, base=Noting, tenant_key='account')
def keyed(self, account, tag='keyed'):
    self.note(tag)
    return tag


@app.task(bind=True, base=Noting)
def nested(self, tag):
    self.note(tag)
    note.delay(f'{tag} > delay')
    app.send_task(note.name, (f'{tag} > send_task',))
    note.apply_async((f'{tag} > explicit',), tenant='other')
    keyed.delay('by-key', f'{tag} > keyed')
    note.apply((f'{tag} > eager',))
    eager.apply((f'{tag} > eager',))
    group(note.s(f'{tag} > group')).delay()
    chain(note.s(f'{tag} > chain'), after.s(f'{tag} > chain tail')).delay()
    chord([note.s(f'{tag} > header')], after.s(f'{tag} > body')).delay()


@app.task
def eager(tag):
    note.delay(f'{tag} > delay')


@app.task(bind=True, base=Noting, max_retries=2, default_retry_delay=0)
def retried(self, tag, tenants=()):
    self.note(f'{tag} {self.request.retries}')
    if self.request.retries < 2:
        options = {'tenant': tenants[self.request.retries]} if tenants else {}
        raise self.retry(countdown=0, **options)


@app.task(bind=True, base=Noting)
def failing(self, tag):
    self.note(tag)
    raise ValueError(tag)


@app.task(bind=True, base=Noting)
def replaced(self, tag):
    self.note(tag)
    raise self.replace(note.s(f'{tag} > replacement'))


@app.task(bind=True, base=Noting)
def added(self, tag):
    self.note(tag)
    return self.add_to_chord(note.s(f'{tag} > added'))


@app.task
def lost(tag):
    """Takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def endless(tag):
    time.sleep(60)


@shared_task(bind=True, tenant_key='account')
def shared(self, account, tag='shared'):
    Noting.note(self, tag)


class ByClass(Noting):
    name = 'by_class'
    tenant_key = 'account'

    def run(self, account, tag='by class'):
        self.note(tag)


app.register_task(ByClass())
