"""One task at a time, without waiting: what is there comes, whatever became of the one before."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest
from kombu import Connection, Consumer, Producer
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_qos import keys
from celery_qos.embedded import EmbeddedRedis
from celery_qos.store import tasks

from ..until import until
from .channels import JOBS, drain, publish
from .workers import ROOT

GREENLETS = '''
from gevent import joinall, monkey, spawn
monkey.patch_all()
import sys
from kombu import Connection
from celery_qos import keys
from tests.integration.channels import JOBS, publish

def at_once(*acts):
    greenlets = [spawn(act) for act in acts]
    joinall(greenlets, timeout=10, raise_error=True)
    return [greenlet.value for greenlet in greenlets]

for _ in range(20):
    with Connection(sys.argv[1]) as connection:
        queue = JOBS(connection.default_channel)
        queue.declare()
'''


def jobs(connection):
    queue = JOBS(connection.default_channel)
    queue.declare()
    return queue


@contextmanager
def stopped(server):
    """It takes commands, and answers them later."""
    pid = server.client().info('server')['process_id']
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize('round', ['''
        publish(connection, *range(8))
        messages = [queue.get() for _ in range(4)]
        taken = at_once(*[message.ack for message in messages], *[queue.get] * 4)[4:]
''', '''
        publish(connection, *range(4, 8))
        queue.get(), queue.get()
        connection.collect()
        queue = JOBS(connection.default_channel)
        taken = at_once(*[queue.get] * 4)
'''], ids=['others ack', 'the connection was lost'])
def test_greenlets_get_on_one_channel(server, round):
    pytest.importorskip('gevent')
    check = '''
        assert sorted(message.payload for message in taken) == [4, 5, 6, 7]
        at_once(*[message.ack for message in taken])
        assert queue.get() is None
        slots = keys.slots(keys.namespace('jobs'))
        assert not connection.default_channel.store.client.exists(slots)
'''
    ended = subprocess.run([sys.executable, '-c', GREENLETS + round + check, server.url('qos')], cwd=ROOT, timeout=30,
                           capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_many_threads_get_at_once(server):
    together, errors = threading.Barrier(24), []

    def get(number):
        with Connection(server.url('qos')) as connection:
            queue = JOBS(connection.default_channel)
            queue.name = f'jobs{number}'
            queue.declare()
            together.wait()
            try:
                for _ in range(50):
                    queue.get()
            except Exception as exc:
                errors.append(exc)

    threads = [threading.Thread(target=get, args=(number,)) for number in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_after_an_ack_that_redis_refused(server):
    # A change of roles ends connections that others keep for later.
    with EmbeddedRedis(server.binary) as own, Connection(own.url('qos')) as connection:
        queue, redis = jobs(connection), own.client()
        publish(connection, 1, 2)
        message = queue.get()
        redis.replicaof('127.0.0.1', 1)
        message.ack()
        redis.replicaof('NO', 'ONE')
        assert until(queue.get, 5).payload == 2


# A database of its own each, as a process keeps the options that one was first used with.
@pytest.mark.parametrize('db, retry', [(1, False), (3, True)])
def test_after_a_reply_that_was_lost(server, db, retry):
    options = {'socket_timeout': 0.5, 'retry_on_timeout': retry}
    with Connection(server.url('qos', db), transport_options=options) as connection:
        queue = jobs(connection)
        assert queue.get() is None
        publish(connection, 1, 2)
        with stopped(server), pytest.raises(RedisTimeoutError):
            queue.get()
        until(lambda: server.client(db).xlen(keys.egress(keys.namespace('jobs'))))
        assert [queue.get().payload, queue.get().payload] == [1, 2]


@pytest.mark.parametrize('db, then', [(4, 'consume'), (5, 'collect'), (6, 'close')])
def test_what_a_lost_reply_brought_comes_to_a_consumer(server, db, then):
    messages = []
    with Connection(server.url('qos', db), transport_options={'socket_timeout': 0.5}) as connection:
        queue = jobs(connection)
        connection.default_channel.basic_get('another')     # the script is sent once
        publish(connection, 1)
        with stopped(server), pytest.raises(RedisTimeoutError):
            queue.get()
        until(lambda: server.client(db).xlen(keys.egress(keys.namespace('jobs'))))
        if then != 'consume':
            getattr(connection, then)()
        Consumer(connection, [JOBS], on_message=messages.append).consume()
        until(lambda: drain(connection) or messages, 5)


def test_behind_more_expired_tasks_than_one_look_removes(server, redis, monkeypatch):
    monkeypatch.setattr(tasks, 'MOST_ROUNDS', 2)
    ends = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    with Connection(server.url('qos')) as connection:
        queue = jobs(connection)
        for number in range(100):
            Producer(connection).publish([[], {}, {}], routing_key='jobs', headers={
                'task': 't', 'id': str(number), 'expires': ends.isoformat()})
        publish(connection, 'lives')
        until(lambda: datetime.now(timezone.utc) > ends)
        assert queue.get() is None
        assert until(queue.get).payload == 'lives'


def test_nothing_is_left_of_it(server, redis):
    with Connection(server.url('qos')) as connection:
        queue = jobs(connection)
        publish(connection, 1)
        queue.get().ack()
        assert queue.get() is None
        assert not redis.exists(*(key(keys.namespace('jobs')) for key in (keys.slots, keys.leases, keys.egress)))
