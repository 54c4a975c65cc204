"""Any message, published or put into egress by hand: each is in one place at a time, and nothing raises."""
from __future__ import annotations

import logging
import os
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kombu import Connection, Consumer, Queue
from kombu.utils.json import dumps

from celery_qos import keys
from celery_qos.errors import QoSError
from celery_qos.store import Store

from ..until import until
from .ledger import Ledger

#: FUZZ=hunt draws other messages each time. Else they are the same, so that what passes does not fail without a change.
HUNTS = os.environ.get('FUZZ') == 'hunt'
NS = keys.namespace('fuzz')


def options(examples: int) -> settings:
    return settings(
        max_examples=examples * 20 if HUNTS else examples, deadline=None, database=None, print_blob=True,
        derandomize=not HUNTS, phases=list(Phase) if HUNTS else [Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck))


text = st.text(max_size=8) | st.sampled_from([
    '', 'x', '-1', '1e999', 'nan', '2030-01-01T00:00:00', '9999-12-31T23:59:59'])
scalar = st.none() | st.booleans() | st.integers() | st.floats() | text | st.sampled_from([10 ** 9, -5, 10 ** 30])
value = st.recursive(
    scalar, lambda some: st.lists(some, max_size=3) | st.dictionaries(text, some, max_size=3), max_leaves=5)
headers = st.dictionaries(st.sampled_from([
    'task', 'id', 'eta', 'expires', 'retries', 'tenant', 'sub_queue', 'timelimit', 'compression',
    'redelivered'
    ]) | text,
    value, max_size=6)
properties = st.dictionaries(st.sampled_from([
    'priority', 'tenant', 'sub_queue', 'deduplication_id', 'body_encoding', 'correlation_id', 'reply_to']) | text,
    value, max_size=4)
body = st.binary(max_size=30) | st.text(st.characters(codec='utf-8'), max_size=30)


FIELDS = ['tenant', 'body', 'headers', 'properties', 'content-type', 'content-encoding', 'tracked', 'sub', 'expires',
          'deliveries', 'redelivered', 'enqueued', 'priority', 'reason', 'junk']


@st.composite
def entries(draw) -> dict[bytes, bytes]:
    """Fields as anyone may write them: some as they must be, some not."""
    found = {}
    for name in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=9, unique=True)):
        if name in ('headers', 'properties') and draw(st.integers(0, 4)):
            found[name.encode()] = dumps(draw(headers if name == 'headers' else properties)).encode()
        else:
            found[name.encode()] = draw(st.binary(max_size=12) | text.map(lambda each: each.encode(errors='replace')))
    return found


def lengths(redis) -> Counter:
    """How many tasks each kind of place has."""
    found: Counter = Counter(delayed=redis.zcard(keys.delayed(NS)))
    for key in redis.scan_iter(f'{NS}:*', _type='stream'):
        found[key.decode().removeprefix(f'{NS}:').partition(':')[0]] += redis.xlen(key)
    return found


def drain_of(connection: Connection):
    def drain() -> None:
        with suppress(TimeoutError):        # what was there was no message
            connection.drain_events(timeout=0.02)
    return drain


def check_accounts(redis) -> None:
    waiting = sum(int(count) for count in redis.hvals(keys.waiting(NS)))
    assert waiting >= lengths(redis)['tenant'] == int(redis.hget(keys.state(NS), 'waiting') or 0)


@pytest.mark.once
def test_any_published_message_is_in_one_place(server, redis, caplog):
    caplog.set_level(logging.CRITICAL)
    connection = Connection(server.url('qos'))
    channel = connection.default_channel
    Queue('fuzz', channel=channel).declare()
    received: list = []
    drain = drain_of(connection)
    consumer = Consumer(channel, [Queue('fuzz')], on_message=received.append, accept=None)
    consumer.on_decode_error = lambda message, exc: message.reject()
    consumer.qos(prefetch_count=3)

    @options(300)
    @given(st.lists(st.tuples(headers, properties, body), min_size=1, max_size=5), st.booleans())
    def publish(messages, consumes):
        before, taken = sum(lengths(redis).values()), 0
        for its_headers, its_properties, its_body in messages:
            message = channel.prepare_message(its_body, headers=dict(its_headers), properties={
                **{name: each for name, each in its_properties.items() if name != 'delivery_info'}},
                content_type='text/plain', content_encoding='binary')
            # Text with half a character is none that can be sent.
            with suppress(QoSError, UnicodeEncodeError):
                channel.basic_publish(message, '', 'fuzz')
                taken += 1
        assert sum(lengths(redis).values()) - before <= taken
        check_accounts(redis)
        if consumes:
            consumer.consume()
            while redis.exists(keys.waiting(NS)) or lengths(redis)['egress']:
                drain()
                while received:
                    received.pop().ack()
                channel.flush()
            consumer.cancel()

    publish()
    connection.release()


@pytest.mark.once
def test_any_entry_is_delivered_or_a_dead_letter(server, redis, caplog):
    caplog.set_level(logging.CRITICAL)
    connection = Connection(server.url('qos'))
    channel = connection.default_channel
    received: list = []
    drain = drain_of(connection)
    consumer = Consumer(channel, [Queue('fuzz')], on_message=received.append, accept=None)
    consumer.on_decode_error = lambda message, exc: message.reject()
    consumer.qos(prefetch_count=3)
    consumer.consume()
    store = Store(redis)

    @options(400)
    @given(st.lists(entries(), min_size=1, max_size=6), st.sampled_from(['ack', 'reject', 'requeue', 'recover']))
    def read(batch, outcome):
        dead, settled = store.count_dead_letters('fuzz'), 0
        for fields in batch:
            redis.xadd(keys.egress(NS), fields)
        deliveries = 0
        while redis.xlen(keys.egress(NS)):
            drain()
            while received:
                message = received.pop()
                deliveries += 1
                if outcome == 'requeue' and not deliveries % 3:
                    message.requeue()
                else:
                    settled += outcome != 'reject'
                    message.reject() if outcome == 'reject' else message.ack()
            channel.flush()
        assert settled + store.count_dead_letters('fuzz') - dead == len(batch)
        assert not channel.qos._delivered or len(channel.qos._delivered) == len(channel.qos._dirty)
        check_accounts(redis)

    read()
    connection.release()
    assert {key.decode().removeprefix(f'{NS}:').partition(':')[0] for key in redis.scan_iter(f'{NS}*')} <= {
        'settings', 'dead', 'published', 'waits'}


@pytest.mark.once
def test_any_entry_ends_in_a_worker_that_goes_on(server, redis):
    ledger, store = Ledger(server), Store(redis)
    egress = keys.egress(keys.namespace('celery'))
    with ledger.worker('solo', level='CRITICAL', ready=False) as worker:
        ledger.send('t', 'first')
        ledger.until('end', 1)

        @options(150)
        @given(st.lists(entries(), min_size=1, max_size=9))
        def work(batch):
            dead = store.count_dead_letters('celery')
            for fields in batch:
                redis.xadd(egress, fields)
            until(lambda: not redis.xlen(egress) or worker.returncode is not None, 10)
            assert worker.returncode is None, worker.log()
            # None is of a task that it has.
            assert store.count_dead_letters('celery') - dead == len(batch)

        work()
        ledger.send('t', 'last')
        ledger.until('end', 2)
