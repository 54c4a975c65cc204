"""Egress in several streams: what is delivered, settled, counted and recovered is so in each of them."""
from __future__ import annotations

from collections import Counter

import pytest
from kombu import Connection, Consumer, Producer, Queue

from celery_qos import keys
from celery_qos.config import QoS
from celery_qos.store import Store

from ..until import until
from .ledger import Ledger

SHARDS = 3
OPTIONS = {'egress': {'streams': SHARDS}, 'lease_seconds': 2}
CONF = {'broker_transport_options': {'qos': OPTIONS}}
JOBS = Queue('jobs')


@pytest.fixture
def ledger(server):
    return Ledger(server, CONF)


def lengths(redis, queue='celery', prefix=''):
    """Entries in each stream of egress."""
    return [redis.xlen(keys.egress(keys.namespace(queue, prefix), shard)) for shard in range(SHARDS)]


def test_tasks_go_through_every_stream_and_run_once(ledger, redis):
    marks = [str(number) for number in range(40)]
    with ledger.worker('threads', 4) as worker:
        for mark in marks:
            ledger.send(f't{int(mark) % 5}', mark, 0.2)
        until(lambda: all(lengths(redis)))
        ledger.until('end', len(marks))
        ledger.until_idle()
        assert Counter(ledger.marks('start')) == Counter(marks), worker.log()
    assert lengths(redis) == [0] * SHARDS


def test_one_task_at_a_time_from_each_stream_in_turn(ledger):
    """With less room than streams, none of them is passed over."""
    marks = [str(number) for number in range(12)]
    ledger.conf['worker_prefetch_multiplier'] = 1
    with ledger.worker('solo', 1):
        for mark in marks:
            ledger.send('t', mark, task='late')
        ledger.until('end', len(marks))
        assert Counter(ledger.marks('start')) == Counter(marks)


def test_a_task_rejected_to_be_run_again_comes_from_any_stream(ledger, redis):
    marks = [str(number) for number in range(12)]
    with ledger.worker('threads', 2):
        for mark in marks:
            ledger.send('t', mark, task='picky')
        ledger.until('end', len(marks))
        ledger.until_idle()
        for event in 'rejected', 'start', 'end':
            assert Counter(ledger.marks(event)) == Counter(marks)
    assert lengths(redis) == [0] * SHARDS


def test_the_tasks_of_a_killed_worker_are_found_in_every_stream(ledger, redis):
    marks = [str(number) for number in range(9)]
    with ledger.worker('threads', 3) as dies:
        for mark in marks:
            ledger.send('t', mark, 1, task='late')
        ledger.until('start', 3)
        until(lambda: all(lengths(redis)))
        dies.kill()
    unfinished = set(marks) - set(ledger.marks('end'))
    with ledger.worker('threads', 9):
        ledger.until('end', len(marks))
        ledger.until_idle()
    assert Counter(ledger.marks('end')) == Counter(marks)
    again = {event['mark'] for event in ledger.events if event['event'] == 'start' and event['redelivered']}
    assert again <= unfinished and len(again) >= SHARDS
    assert lengths(redis) == [0] * SHARDS


def test_acks_rejects_and_requeues_of_each_stream(server, redis):
    def receive(count):
        messages = []
        with Consumer(connection, [JOBS], on_message=messages.append, prefetch_count=20):
            while len(messages) < count:
                connection.drain_events(timeout=5)
        return messages

    # A key prefix of its own, as the process keeps the options that a database was first used with.
    options = {'qos': OPTIONS, 'global_keyprefix': 'streams.'}
    with Connection(server.url('qos'), transport_options=options) as connection:
        JOBS(connection.default_channel).declare()
        for number in range(12):
            Producer(connection).publish(number, routing_key='jobs')
        messages = receive(12)
        assert sorted(message.payload for message in messages) == list(range(12))
        assert all(lengths(redis, 'jobs', 'streams.'))
        for message in messages:
            (message.ack, message.reject, message.requeue)[message.payload // 4]()
        again = receive(4)
        assert sorted(message.payload for message in again) == [8, 9, 10, 11]
        for message in again:
            assert message.delivery_info['redelivered']
            message.ack()
    assert lengths(redis, 'jobs', 'streams.') == [0] * SHARDS


def test_with_room_for_one_the_streams_take_turns(server):
    """Slots of others who do not read are filled too, and no stream may hide what the others hold."""
    received = []
    options = {'qos': OPTIONS, 'global_keyprefix': 'turns.'}
    with Connection(server.url('qos'), transport_options=options) as connection:
        JOBS(connection.default_channel).declare()
        connection.default_channel.store.lease('jobs', 'busy', 5, 60)
        for number in range(30):
            Producer(connection).publish(number, routing_key='jobs')
        with Consumer(connection, [JOBS], on_message=received.append, prefetch_count=1):
            while len(received) < 20:
                connection.drain_events(timeout=5)
                received[-1].ack()
    assert {0, 1, 2, 3, 4} <= {message.payload for message in received[:10]}


def test_streams_that_are_added_are_read(server, redis):
    ledger = Ledger(server, {'broker_transport_options': {'qos': {'lease_seconds': 2}}})
    many = QoS.from_data(OPTIONS)
    with ledger.worker('threads', 2) as worker:
        ledger.send('t', 'before')
        ledger.until('end', 1)
        Store(redis).declare('celery', many.fingerprint, many.stored, many.structure, force=True)
        for number in range(12):
            ledger.send('t', str(number), 0.3)
        until(lambda: all(lengths(redis)))
        ledger.until('end', 13)
        ledger.until_idle()
        assert lengths(redis) == [0] * SHARDS
        assert 'made anew' not in worker.log()


def test_size_and_purge_count_every_stream(store: Store, redis):
    qos = QoS.from_data(OPTIONS)
    store.declare('jobs', qos.fingerprint, qos.stored, qos.structure)
    store.lease('jobs', 'w', 9, 60)
    for number in range(12):
        store.enqueue('jobs', 't', 0, {'number': str(number)})
    assert sum(lengths(redis, 'jobs')) == 9 and all(lengths(redis, 'jobs'))
    assert store.size('jobs') == 12
    assert store.purge('jobs') == 12
    assert store.size('jobs') == 0
    assert sum(lengths(redis, 'jobs')) == 0
