"""Slots follow what the worker does at run time, and Celery's own tools work as on any broker."""
from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from socket import socket
from time import monotonic

import celery
import pytest

from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .workers import ROOT, environment

NS = keys.namespace('celery')


def slots(ledger: Ledger, queue: str = 'celery') -> int:
    return sum(map(int, ledger.redis.hvals(keys.slots(keys.namespace(queue)))))


def command(ledger: Ledger, *words: str) -> str:
    """What a Celery command line prints."""
    env = environment(ledger.server.url('qos'), '', {
        'QOS_TEST_LEDGER': ledger.server.socket, 'QOS_TEST_CONF': json.dumps(ledger.conf)})
    done = subprocess.run([sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.ledger', *words],
                          env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_slots_are_the_workers_prefetch_count(server):
    ledger = Ledger(server)
    with ledger.worker('threads', 3):
        assert slots(ledger) == 12
        with ledger.worker('prefork', 2, ('--prefetch-multiplier', '1')):
            assert slots(ledger) == 14
        # That one was killed: its lease ends later.
        assert slots(ledger) == 14


def test_an_unlimited_prefetch_count_has_a_bound(server):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 0})
    with ledger.worker('solo', 1):
        assert slots(ledger) == 1000
    ledger = Ledger(server, {'worker_prefetch_multiplier': 0,
                             'broker_transport_options': {'qos': {'unlimited_prefetch': 20}}})
    server.client().flushdb()
    with ledger.publishing() as send:
        for number in range(100):
            send('t', str(number))
    with ledger.worker('solo', 1):
        assert slots(ledger) == 20
        ledger.until('end', 100)


def test_slots_follow_pool_grow_and_shrink(server):
    ledger = Ledger(server)
    with ledger.worker('prefork', 2):
        assert slots(ledger) == 8
        ledger.tell('pool_grow', 2)
        until(lambda: slots(ledger) == 16)
        # Celery refuses as long as a new process has not reported that it is idle.
        until(lambda: 'ok' in str(ledger.tell('pool_shrink', 1)))
        until(lambda: slots(ledger) == 12)


def test_slots_follow_autoscale(server):
    ledger = Ledger(server)
    with ledger.worker('prefork', 1, ('--autoscale=4,1',)):
        assert slots(ledger) == 16
        ledger.tell('autoscale', 2, 1)
        ledger.tell('autoscale', 6, 5)
        until(lambda: slots(ledger) > 16, what='more slots')


def test_a_cancelled_queue_gives_its_slots_back(server):
    ledger = Ledger(server)
    with ledger.worker('threads', 2):
        ledger.tell('cancel_consumer', 'celery')
        until(lambda: slots(ledger) == 0)
        ledger.send('t', 'waits')
        assert server.client().hgetall(keys.waiting(NS)) == {b':t': b'1'}
        ledger.tell('add_consumer', 'celery')
        until(lambda: slots(ledger) == 8)
        ledger.until('end', 1)
        ledger.tell('add_consumer', 'other')
        until(lambda: slots(ledger, 'other') == 8)
        ledger.send('t', 'other', queue='other')
        ledger.until('end', 2)


def test_a_queue_cancelled_while_its_tasks_run_keeps_their_lease(server):
    ledger = Ledger(server, {'broker_transport_options': {'qos': {'lease_seconds': 2}}})
    with ledger.worker('threads', 2), ledger.worker('threads', 2, ('-Q', 'other')):
        ledger.send('t', 'long', seconds=5, task='late')
        ledger.until('start', 1)
        ledger.tell('cancel_consumer', 'celery')
        until(lambda: slots(ledger) == 0)
        ledger.tell('add_consumer', 'celery')
        ledger.until('end', 1)
        ledger.until_idle()
    assert len(ledger.marks('start')) == 1


def test_several_queues_with_little_room(server):
    """COUNT is per stream: a worker with room for one must not take one of each queue."""
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.worker('solo', 1, ('-Q', 'a,b,c')):
        for number in range(10):
            for queue in 'abc':
                ledger.send('t', f'{queue}{number}', seconds=0.02, queue=queue, task='late')
        ledger.until('start', 1)
        while len(ledger.marks('end')) < 30:
            with server.client().pipeline() as at_once:
                for queue in 'abc':
                    at_once.xpending(keys.egress(keys.namespace(queue)), keys.GROUP)
                assert sum(each['pending'] for each in at_once.execute()) <= 1
        ledger.send('t', 'last', queue='c')
        ledger.until('end', 31, timeout=3)


@pytest.mark.skipif(celery.VERSION < (5, 6), reason='came with Celery 5.6')
def test_worker_disable_prefetch(server):
    ledger = Ledger(server, {'worker_disable_prefetch': True})
    with ledger.worker('threads', 2):
        for number in range(10):
            ledger.send('t', f'{number}', seconds=0.3, task='late')
        ledger.until('start', 2)
        assert server.client().xpending(keys.egress(NS), keys.GROUP)['pending'] <= 3
        ledger.until('end', 10)


@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_inspect_and_control(server, pool):
    ledger = Ledger(server)
    with ledger.worker(pool, 2) as worker:
        inspect = ledger.app.control.inspect(timeout=15, limit=1)
        for number in range(6):
            ledger.send('t', f'{number}', seconds=4, task='late')
        ledger.until('start', 2)
        assert inspect.ping() == {worker.name: {'ok': 'pong'}}
        active = inspect.active()[worker.name]
        assert len(active) == 2 and active[0]['args'][0] == 't'
        revoked = until(lambda: inspect.reserved()[worker.name])[-1]['id']
        ledger.tell('revoke', revoked)
        until(lambda: revoked in inspect.revoked()[worker.name])
        stats = inspect.stats()[worker.name]
        assert stats['prefetch_count'] == 8
        assert stats['broker']['transport'] in ('qos', 'celery_qos.transport:Transport')
        assert inspect.active_queues()[worker.name][0]['name'] == 'celery'
        # Green pools ask whether a task is revoked before they have room for it, so this one may run.
        ledger.until('end', 5)
        ledger.until_idle()
        assert len(ledger.marks('end')) == 5 or pool == 'gevent'


def test_command_line_tools(server):
    ledger = Ledger(server)
    for number in range(5):
        ledger.send(f't{number % 2}', str(number))
    assert '5' in command(ledger, 'amqp', 'queue.declare', 'celery')
    assert 'Purged 5 messages' in command(ledger, 'purge', '-f')
    assert ledger.stray_keys() == []
    with ledger.worker('threads', 1) as worker:
        assert '1 node online' in command(ledger, 'status')
        assert worker.name in command(ledger, 'inspect', 'ping')


def test_events(server):
    ledger = Ledger(server)
    received = []
    # Not the threads pool: Celery 5.5 sends its events from several threads, and may lose one.
    with ledger.worker('solo', 1, ('-E',)), ledger.app.connection() as connection:
        receiver = ledger.app.events.Receiver(connection, handlers={'*': received.append})
        with receiver.consumer_context() as (draining, _, _):

            def until_seen(*types: str) -> None:
                end = monotonic() + 30
                while not set(types) <= {event['type'] for event in received}:
                    assert monotonic() < end, {event['type'] for event in received}
                    draining.drain_events(timeout=10)
            until_seen('worker-heartbeat')
            ledger.send('t', 'x')
            until_seen('task-received', 'task-started', 'task-succeeded')


def test_flower_shows_workers_and_tasks(server):
    pytest.importorskip('flower')
    ledger = Ledger(server)
    with socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    env = environment(ledger.server.url('qos'), '', {
        'QOS_TEST_LEDGER': ledger.server.socket, 'FLOWER_UNAUTHENTICATED_API': 'true'})
    with ledger.worker('threads', 1, ('-E',)) as worker:
        flower = subprocess.Popen(
            [sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.ledger', 'flower', f'--port={port}',
             '--address=127.0.0.1'], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            def api(path: str) -> dict:
                try:
                    with urllib.request.urlopen(f'http://127.0.0.1:{port}/api/{path}', timeout=5) as reply:
                        return json.load(reply)
                except OSError:
                    return {}
            until(lambda: worker.name in api('workers?refresh=true'), 30)
            # It answers before it listens to events, and nobody keeps these.
            until(lambda: ledger.send('t', 'x')
                  or any(task['state'] == 'SUCCESS' for task in api('tasks').values()), 30)
        finally:
            flower.terminate()
            flower.communicate(timeout=20)
