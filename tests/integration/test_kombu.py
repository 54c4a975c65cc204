"""Kombu without Celery: connections, simple queues, producers, consumers and exchanges on a real server."""
from __future__ import annotations

import json
import pickle
import subprocess
import sys
from contextlib import suppress
from functools import partial
from queue import Empty
from time import monotonic, sleep

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import ChannelError
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin

from celery_qos import keys, reader
from celery_qos.transport import Transport
from celery_qos.worker.discarded import Discarded
from tests.until import until

from . import channels

JOBS = Queue('jobs', Exchange('jobs', type='direct'), routing_key='jobs')
#: Handles events until none comes any more.
drain = partial(channels.drain, timeout=0.2)


@pytest.fixture
def connection(server, redis):
    """A connection; once closed, it holds no slots."""
    with Connection(server.url('qos')) as connection:
        yield connection
    leaked = [key for key in redis.keys() if key.endswith((b':leases', b':slots'))]
    assert not leaked, 'a closed connection keeps its slots'


@pytest.fixture
def channel(connection):
    return connection.default_channel


@pytest.fixture
def producer(connection):
    return Producer(connection)


def put(producer, *bodies, queue=JOBS, **options):
    for body in bodies:
        producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options)


def taken(channel, *queues, prefetch=0, ack=True, connection=None, **options):
    """The bodies that one consumer gets."""
    bodies = []

    def receive(body, message):
        bodies.append(body)
        if ack and not options.get('no_ack'):
            message.ack()

    channel.basic_qos(0, prefetch, False)
    with Consumer(channel, list(queues or (JOBS,)), callbacks=[receive], **options):
        drain(connection or channel.connection.client)
    return bodies


def all_of(queue):
    return [message.payload for message in iter(lambda: queue.get(no_ack=True), None)]


def egress(queue='jobs'):
    return keys.egress(keys.namespace(queue))


def held(redis, queue='jobs'):
    """Tasks delivered and not settled."""
    return redis.xpending(egress(queue), keys.GROUP)['pending'] if redis.exists(egress(queue)) else 0


def test_the_scheme_picks_the_transport(connection):
    assert isinstance(connection.transport, Transport)
    assert connection.transport.driver_type == 'redis'
    assert connection.supports_exchange_type('fanout') and connection.supports_exchange_type('topic')
    assert not connection.supports_exchange_type('headers')


# -- simple queues

def test_simple_queue_in_order(connection):
    with connection.SimpleQueue('simple') as queue:
        for number in range(5):
            queue.put({'number': number})
        assert len(queue) == 5
        for number in range(5):
            message = queue.get(timeout=5)
            assert message.payload == {'number': number}
            message.ack()
        assert queue.qsize() == 0
        with pytest.raises(Empty):
            queue.get(timeout=0.05)


def test_simple_queue_without_waiting(connection):
    with connection.SimpleQueue('simple') as queue:
        with pytest.raises(Empty):
            queue.get_nowait()
        queue.put('x')
        message = queue.get_nowait()
        assert message.payload == 'x'
        message.ack()
        queue.put('a')
        queue.put('b')
        assert queue.clear() == 2


def test_simple_buffer_needs_no_ack(connection):
    with connection.SimpleBuffer('buffer') as queue:
        queue.put('x')
        assert queue.get(timeout=5).payload == 'x'
        assert queue.qsize() == 0


def test_what_a_closed_simple_queue_took_in_advance_is_there_for_the_next(connection):
    with connection.SimpleQueue('simple') as queue:
        for number in range(3):
            queue.put(number)
        queue.get(timeout=5).ack()
    with connection.SimpleQueue('simple') as queue:
        for number in 1, 2:
            message = queue.get(timeout=5)
            assert message.payload == number
            message.ack()


# -- basic_get

def test_get_and_ack(connection, channel, producer, redis):
    put(producer, 'a', 'b')
    jobs = JOBS(channel)
    first, second = jobs.get(), jobs.get()
    assert [first.payload, second.payload] == ['a', 'b']
    assert jobs.get() is None
    assert held(redis) == 2
    second.ack()
    assert held(redis) == 1
    first.ack()
    assert redis.xlen(egress()) == 0


def test_get_without_ack_leaves_nothing(channel, producer, redis):
    put(producer, 'a')
    assert JOBS(channel).get(no_ack=True).payload == 'a'
    assert redis.xlen(egress()) == 0
    assert JOBS(channel).get(no_ack=True) is None


def test_a_requeued_message_comes_back_redelivered(channel, producer):
    put(producer, 'a', 'b')
    jobs = JOBS(channel)
    message = jobs.get()
    assert not message.delivery_info.get('redelivered')
    message.requeue()
    messages = [jobs.get(), jobs.get()]
    assert {message.payload: bool(message.delivery_info.get('redelivered')) for message in messages} \
        == {'a': True, 'b': False}
    for message in messages:
        message.reject()
    assert jobs.get() is None


def test_settling_twice_is_refused_by_kombu_and_changes_nothing(channel, producer):
    put(producer, 'a', 'b')
    message = JOBS(channel).get()
    message.ack()
    with pytest.raises(message.MessageStateError):
        message.ack()
    channel.basic_ack(message.delivery_tag)
    assert JOBS(channel).get(no_ack=True).payload == 'b'


def test_recover_hands_back_what_is_not_settled(channel, producer):
    put(producer, 'a', 'b')
    jobs = JOBS(channel)
    jobs.get().ack()
    jobs.get()
    channel.basic_recover(requeue=True)
    message = jobs.get()
    assert message.payload == 'b' and message.delivery_info['redelivered']
    message.ack()


def test_a_closed_channel_hands_back_what_is_not_settled(connection, producer):
    put(producer, 'a')
    channel = connection.channel()
    assert JOBS(channel).get().payload == 'a'
    channel.close()
    message = JOBS(connection.default_channel).get()
    assert message.payload == 'a'
    assert message.delivery_info['redelivered']
    message.ack()


# -- consumers

def test_consume_in_order(connection, channel, producer, redis):
    put(producer, *range(50))
    assert taken(channel) == list(range(50))
    assert redis.xlen(egress()) == 0


@pytest.mark.parametrize('prefetch', [1, 2, 7])
def test_prefetch_limits_what_is_held(connection, channel, producer, redis, prefetch):
    put(producer, *range(10))
    assert taken(channel, prefetch=prefetch, ack=False) == list(range(prefetch))
    assert JOBS(channel).queue_declare(passive=True).message_count == 10 - prefetch
    channel.close()
    assert JOBS(connection.channel()).queue_declare(passive=True).message_count == 10


def test_prefetch_refills_as_messages_are_settled(connection, channel, producer, redis):
    put(producer, *range(10))
    most, bodies = [], []

    def receive(body, message):
        bodies.append(body)
        most.append(held(redis))
        message.ack()

    channel.basic_qos(0, 2, False)
    with Consumer(channel, [JOBS], callbacks=[receive]):
        drain(connection)
    assert bodies == list(range(10))
    assert max(most) <= 2


def test_without_a_limit_everything_is_delivered(connection, channel, producer):
    put(producer, *range(100))
    assert taken(channel, prefetch=0, ack=False) == list(range(100))


def test_several_queues_and_prefetch_one_hold_one(connection, channel, producer, redis):
    queues = [Queue(name, Exchange(name), routing_key=name) for name in ('one', 'two', 'three')]
    for queue in queues:
        put(producer, *(f'{queue.name}{number}' for number in range(3)), queue=queue)
    most, bodies = [], []

    def receive(body, message):
        bodies.append(body)
        most.append(sum(held(redis, queue.name) for queue in queues))
        message.ack()

    channel.basic_qos(0, 1, False)
    with Consumer(channel, queues, callbacks=[receive]):
        drain(connection)
    assert sorted(bodies) == sorted(f'{queue.name}{number}' for queue in queues for number in range(3))
    assert max(most) == 1
    for queue in queues:
        assert [body for body in bodies if body.startswith(queue.name)] == [f'{queue.name}{n}' for n in range(3)]


def test_two_consumers_share_and_nothing_is_delivered_twice(server, connection, producer):
    put(producer, *range(20))
    got = {'a': [], 'b': []}
    with Connection(server.url('qos')) as other:
        consumers = []
        for name, each in ('a', connection), ('b', other):
            def receive(body, message, name=name):
                got[name].append(body)
                message.ack()
            channel = each.channel()
            channel.basic_qos(0, 1, False)
            consumers.append(Consumer(channel, [JOBS], callbacks=[receive]))
            consumers[-1].consume()

        def turn():
            for each in connection, other:
                try:
                    each.drain_events(timeout=0.01)
                except TimeoutError:
                    pass
            return len(got['a']) + len(got['b']) >= 20

        until(turn)
        assert sorted(got['a'] + got['b']) == list(range(20))
        assert got['a'] and got['b']
        for consumer in consumers:
            consumer.cancel()
            consumer.channel.close()


def test_without_ack_nothing_is_held(connection, channel, producer, redis):
    put(producer, *range(5))
    assert taken(channel, no_ack=True) == list(range(5))
    assert redis.xlen(egress()) == 0


def test_reject_and_requeue_in_a_consumer(connection, channel, producer, redis):
    put(producer, 'again', 'never')
    seen = []

    def receive(body, message):
        redelivered = bool(message.delivery_info.get('redelivered'))
        seen.append((body, redelivered))
        if redelivered:
            message.ack()
        elif body == 'again':
            message.requeue()
        else:
            message.reject()

    with Consumer(channel, [JOBS], callbacks=[receive]):
        drain(connection)
    assert sorted(seen) == [('again', False), ('again', True), ('never', False)]
    assert redis.xlen(egress()) == 0


def test_recover_in_a_consumer(connection, channel, producer):
    put(producer, 'a', 'b')
    seen = []

    def receive(body, message):
        seen.append((body, bool(message.delivery_info.get('redelivered'))))
        if message.delivery_info.get('redelivered'):
            message.ack()

    with Consumer(channel, [JOBS], callbacks=[receive]) as consumer:
        drain(connection)
        consumer.recover(requeue=True)
        drain(connection)
    assert seen == [('a', False), ('b', False), ('a', True), ('b', True)]


def test_a_cancelled_consumer_keeps_what_it_was_given_and_gets_no_more(connection, channel, producer, redis):
    put(producer, 'a', 'b')
    messages = []
    channel.basic_qos(0, 1, False)
    consumer = Consumer(channel, [JOBS], on_message=messages.append)
    consumer.consume()
    until(lambda: drain(connection, timeout=0.05) or messages)
    consumer.cancel()
    put(producer, 'c')
    drain(connection)
    assert [message.payload for message in messages] == ['a']
    messages[0].ack()
    assert taken(channel) == ['b', 'c']


@pytest.mark.parametrize('channels', [1, 2])
def test_one_of_two_consumers_of_a_connection_is_cancelled(connection, producer, redis, channels):
    got = {'first': [], 'second': []}
    own = [connection.channel() for _ in range(channels)]
    consumers = [
        Consumer(channel, [JOBS], callbacks=[lambda body, message, name=name: (got[name].append(body), message.ack())],
                 tag_prefix=name)
        for name, channel in zip(got, own * 2)]
    for consumer in consumers:
        consumer.consume()
    put(producer, *range(4))
    drain(connection, timeout=0.05)
    consumers[1].cancel()
    put(producer, *range(4, 8))
    drain(connection, timeout=0.05)
    assert sorted(got['first'] + got['second']) == list(range(8))
    assert set(got['first']) >= set(range(4, 8))
    assert held(redis) == 0 and not any(channel.lease.held for channel in own)


def test_a_cancelled_consumer_takes_nothing_while_nobody_drains_its_connection(server, connection, producer):
    """Its read may be out: what the server answered later would lie there as long as the connection is open."""
    with Connection(server.url('qos')) as other:
        bodies = []
        Consumer(other, [JOBS], on_message=lambda message: (bodies.append(message.payload), message.ack())).consume()
        with Consumer(connection, [JOBS], on_message=lambda message: message.ack()):
            drain(connection, timeout=0.05)
        drain(other, timeout=0.05)
        put(producer, 'a', 'b')
        until(lambda: drain(other, timeout=0.05) or len(bodies) == 2, timeout=5)


def test_a_read_that_is_refused_at_once_is_a_lost_connection(server, redis):
    with Connection(server.url('qos')) as connection:
        queues = [Queue('one'), Queue('two')]
        connection.default_channel.basic_qos(0, 1, False)
        with Consumer(connection, queues, on_message=lambda message: message.ack()):
            for queue in queues:
                redis.set(egress(queue.name), 'by hand')
            with pytest.raises(connection.connection_errors, match='WRONGTYPE'):
                connection.drain_events(timeout=1)
            redis.delete(*(egress(queue.name) for queue in queues))


def test_a_consumer_that_raises_keeps_the_message(connection, channel, producer):
    put(producer, 'a')

    def fail(body, message):
        raise RuntimeError('no')

    with Consumer(channel, [JOBS], callbacks=[fail]), pytest.raises(RuntimeError):
        connection.drain_events(timeout=5)
    channel.close()
    message = JOBS(connection.channel()).get()
    assert message.payload == 'a'
    message.ack()


def test_consumer_mixin(server, connection, producer):
    class Service(ConsumerMixin):
        def __init__(self, connection):
            self.connection = connection
            self.bodies = []

        def get_consumers(self, Consumer, channel):
            return [Consumer([JOBS], callbacks=[self.receive], prefetch_count=2)]

        def receive(self, body, message):
            self.bodies.append(body)
            message.ack()
            self.should_stop = len(self.bodies) == 10

    put(producer, *range(10))
    with Connection(server.url('qos')) as own:
        service = Service(own)
        service.run()
    assert service.bodies == list(range(10))


def test_request_and_reply(server, connection, redis):
    """The RPC pattern of Kombu's manual: an exclusive reply queue per caller."""
    class Server(ConsumerProducerMixin):
        def __init__(self, connection):
            self.connection = connection

        def get_consumers(self, Consumer, channel):
            return [Consumer([JOBS], on_message=self.receive)]

        def receive(self, message):
            asked = message.properties
            self.producer.publish({'double': 2 * message.payload}, exchange='', routing_key=asked['reply_to'],
                                  correlation_id=asked['correlation_id'])
            message.ack()
            self.should_stop = True

    reply_to = Queue('reply.1', exclusive=True, auto_delete=True)
    replies = []
    channel = connection.channel()
    with Consumer(channel, [reply_to], on_message=replies.append, no_ack=True):
        put(Producer(channel), 21, reply_to='reply.1', correlation_id='7')
        with Connection(server.url('qos')) as own:
            Server(own).run()
        until(lambda: drain(connection, timeout=0.05) or replies)
    assert replies[0].payload == {'double': 42}
    assert replies[0].properties['correlation_id'] == '7'
    reply_to(channel).delete()
    channel.close()


@pytest.mark.parametrize('meanwhile', ['it waits for replies', 'it sends requests'])
def test_a_reply_queue_is_one_for_as_long_as_its_owner_works(server, connection, redis, monkeypatch, meanwhile):
    monkeypatch.setattr('celery_qos.reply_queues.TRANSIENT_TTL_MS', 300)
    replies, reply_to = [], Queue('reply.2', exclusive=True, auto_delete=True)
    with Consumer(connection, [reply_to], on_message=replies.append, no_ack=True):
        for _ in range(12):
            if meanwhile == 'it waits for replies':
                drain(connection, timeout=0.05)
            else:
                sleep(0.05)
                put(Producer(connection), 'request', headers={'task': 'double'})
        with Connection(server.url('qos')) as other:
            Producer(other).publish('reply', routing_key='reply.2')
        until(lambda: drain(connection, timeout=0.05) or replies, timeout=2)
    reply_to(connection.default_channel).delete()
    assert not redis.exists(keys.transient(keys.namespace('reply.2')))


# -- priorities

def test_priorities_go_by_kombus_steps(connection, channel, producer):
    for priority in 9, 4, 0, 7, 2, 5, 8, 1, 3, 6:
        put(producer, priority, priority=priority)
    assert taken(channel, prefetch=1) == [0, 2, 1, 4, 5, 3, 7, 8, 6, 9]


def test_priority_steps_can_be_set(server, producer):
    with Connection(server.url('qos'), transport_options={'priority_steps': list(range(10))}) as connection:
        fine = Producer(connection)
        for priority in 9, 4, 0, 7, 2, 5, 8, 1, 3, 6:
            put(fine, priority, priority=priority)
        assert taken(connection.default_channel, prefetch=1, connection=connection) == list(range(10))


@pytest.mark.parametrize('priority', [-1, 10, 255, 'high'])
def test_a_priority_out_of_range_still_arrives(channel, producer, priority):
    put(producer, 'x', priority=priority)
    assert JOBS(channel).get(no_ack=True).payload == 'x'


def test_priority_survives_a_requeue(channel, producer):
    put(producer, 'x', priority=3)
    JOBS(channel).get().requeue()
    message = JOBS(channel).get()
    assert message.properties['priority'] == 3
    message.ack()


# -- exchanges

def test_direct_exchange_with_two_bindings(channel, producer):
    exchange = Exchange('colours', type='direct')
    red = Queue('red', exchange, routing_key='red')
    blue = Queue('blue', exchange, routing_key='blue')
    for queue in red, blue:
        queue(channel).declare()
    for colour in 'red', 'blue', 'red', 'green':
        producer.publish(colour, exchange=exchange, routing_key=colour)
    assert all_of(red(channel)) == ['red', 'red']
    assert all_of(blue(channel)) == ['blue']


def test_one_message_into_two_queues(channel, producer):
    exchange = Exchange('copies', type='direct')
    queues = [Queue(name, exchange, routing_key='all')(channel) for name in ('left', 'right')]
    for queue in queues:
        queue.declare()
    producer.publish('x', exchange=exchange, routing_key='all')
    assert [queue.get(no_ack=True).payload for queue in queues] == ['x', 'x']


def test_topic_exchange(channel, producer):
    exchange = Exchange('topics', type='topic')
    queues = {pattern: Queue(f'q{number}', exchange, routing_key=pattern)(channel)
              for number, pattern in enumerate(['stock.#', 'stock.*.nyse', '*.eu.*'])}
    for queue in queues.values():
        queue.declare()
    for key in 'stock.us.nyse', 'stock.eu.dax', 'bond.eu.x':
        producer.publish(key, exchange=exchange, routing_key=key)
    assert {pattern: sorted(all_of(queue)) for pattern, queue in queues.items()} == {
        'stock.#': ['stock.eu.dax', 'stock.us.nyse'],
        'stock.*.nyse': ['stock.us.nyse'],
        '*.eu.*': ['bond.eu.x', 'stock.eu.dax'],
    }


def test_fanout_exchange_reaches_every_consumer(server, connection, producer):
    exchange = Exchange('news', type='fanout')
    got = []
    with Connection(server.url('qos')) as other:
        channels = connection.channel(), other.channel()
        consumers = [Consumer(channel, [Queue(f'news{number}', exchange)], no_ack=True,
                              callbacks=[lambda body, message, number=number: got.append((number, body))])
                     for number, channel in enumerate(channels)]
        for consumer in consumers:
            consumer.consume()
        for each in connection, other:
            drain(each, timeout=0.05)
        producer.publish({'héadline': 1}, exchange=exchange, routing_key='', declare=[exchange])
        until(lambda: drain(connection, timeout=0.02) or drain(other, timeout=0.02) or len(got) == 2)
        assert sorted(got) == [(0, {'héadline': 1}), (1, {'héadline': 1})]
        for channel in channels:
            channel.close()


# -- declare, count, purge, delete

def test_passive_declare(channel, producer):
    with pytest.raises(ChannelError) as caught:
        Queue('nowhere', channel=channel).queue_declare(passive=True)
    assert '404' in str(caught.value)
    put(producer, 1, 2, 3)
    assert JOBS(channel).queue_declare(passive=True).message_count == 3


def test_counts_follow_the_messages(channel, producer):
    jobs = JOBS(channel)
    put(producer, *range(5))
    message = jobs.get()
    assert jobs.queue_declare(passive=True).message_count == 4
    message.requeue()
    assert jobs.queue_declare(passive=True).message_count == 5
    jobs.get().ack()
    assert jobs.queue_declare(passive=True).message_count == 4


def test_purge_leaves_what_is_held(channel, producer, redis):
    put(producer, *range(250))
    jobs = JOBS(channel)
    message = jobs.get()
    assert jobs.purge() == 249
    assert jobs.purge() == 0
    assert held(redis) == 1
    message.ack()
    assert jobs.get() is None


def test_delete_leaves_no_key(connection, channel, producer, redis):
    put(producer, *range(3))
    put(producer, 4, priority=9)
    taken(channel, prefetch=1)
    put(producer, 5)
    JOBS(channel).delete()
    assert redis.keys() == []
    with pytest.raises(ChannelError):
        JOBS(channel).queue_declare(passive=True)


def test_delete_if_empty_and_if_unused(connection, channel, producer):
    put(producer, 1)
    jobs = JOBS(channel)
    jobs.delete(if_empty=True)
    assert jobs.queue_declare(passive=True).message_count == 1
    with Consumer(channel, [JOBS], callbacks=[lambda body, message: message.ack()]):
        connection.drain_events(timeout=5)
        jobs.delete(if_unused=True)
        assert jobs.queue_declare(passive=True).message_count == 0
    jobs.delete(if_empty=True, if_unused=True)
    with pytest.raises(ChannelError):
        jobs.queue_declare(passive=True)


def test_a_deleted_queue_can_be_used_again(channel, producer):
    put(producer, 1)
    JOBS(channel).delete()
    JOBS(channel).declare()
    put(producer, 2)
    assert JOBS(channel).get(no_ack=True).payload == 2
    assert JOBS(channel).get(no_ack=True) is None


def test_an_idle_queue_keeps_its_settings_only(connection, channel, producer, redis):
    put(producer, *range(20))
    assert len(taken(channel, prefetch=3)) == 20
    channel.close()
    kept = {key.decode().removeprefix('{qos:jobs:0}:'): redis.pttl(key)
            for key in redis.keys() if not key.startswith(b'_kombu.')}
    lasting = {name for name, ttl_ms in kept.items() if ttl_ms < 0}
    assert lasting == {'settings'}
    # Who published what, and how long tasks waited, is remembered for a while.
    assert {'published'} <= {name.partition(':')[0] for name in kept if name not in lasting} <= {'published', 'waits'}


# -- bodies

BODIES = {
    'json': ({'text': 'naïve ☃ \U0001f600', 'list': [1, None, 1.5]}, {}),
    'pickle': ({'set': {1, 2}, 'bytes': b'\x00\xff'}, {'serializer': 'pickle'}),
    'msgpack': ({'bytes': b'\x00\xff\x80', 'n': 1}, {'serializer': 'msgpack'}),
    'yaml': ({'a': [1, 2]}, {'serializer': 'yaml'}),
    'zlib': ({'text': 'x' * 5000}, {'compression': 'zlib'}),
    'bzip2 pickle': ({'set': {1}}, {'compression': 'bzip2', 'serializer': 'pickle'}),
    'raw bytes': (b'\x00\xff\xfe{', {'content_type': 'application/data', 'content_encoding': 'binary'}),
    'text': ('grüße', {'content_type': 'text/plain', 'content_encoding': 'utf-8'}),
    'empty': (b'', {'content_type': 'text/plain', 'content_encoding': 'utf-8'}),
    'large': ({'text': 'y' * 2_000_000}, {}),
}


@pytest.mark.parametrize('kind', BODIES)
@pytest.mark.parametrize('redelivered', [False, True], ids=['first', 'redelivered'])
def test_bodies_arrive_as_they_were(connection, channel, producer, kind, redelivered):
    body, options = BODIES[kind]
    if options.get('serializer') in ('yaml', 'msgpack'):
        pytest.importorskip({'yaml': 'yaml', 'msgpack': 'msgpack'}[options['serializer']])
    put(producer, body, headers={'n': 1, 'ümlaut': 'ß'}, **options)
    if redelivered:
        JOBS(channel).get().requeue()
    messages = []
    with Consumer(channel, [JOBS], on_message=messages.append,
                  accept=['json', 'pickle', 'msgpack', 'yaml', 'application/data', 'text/plain']):
        connection.drain_events(timeout=5)
        message, = messages
        assert message.payload == body
        assert message.headers['n'] == 1 and message.headers['ümlaut'] == 'ß'
        message.ack()


def test_the_body_is_readable_in_redis(channel, producer, redis):
    body = {'order': 7, 'name': 'Zoë'}
    put(producer, body)
    (_, waiting), = redis.xrange(keys.tenant_stream(keys.namespace('jobs'), ''))
    assert waiting[b'body'] == json.dumps(body, ensure_ascii=False).encode() \
        or waiting[b'body'] == json.dumps(body).encode()
    assert json.loads(waiting[b'body']) == body
    JOBS(channel).get(no_ack=True)


def test_binary_bodies_are_stored_as_they_are(channel, producer, redis):
    body = {1, 2, b'\xff'}
    put(producer, body, serializer='pickle')
    (_, waiting), = redis.xrange(keys.tenant_stream(keys.namespace('jobs'), ''))
    assert pickle.loads(waiting[b'body']) == body
    assert len(waiting[b'body']) == len(pickle.dumps(body, pickle.DEFAULT_PROTOCOL))
    JOBS(channel).get(no_ack=True)


# -- round trips

def commands(redis):
    return {name.removeprefix('cmdstat_'): stat['calls'] for name, stat in redis.info('commandstats').items()}


def test_one_command_a_publish(connection, channel, producer, redis):
    JOBS(channel).declare()
    producer.publish(0, exchange='', routing_key='jobs')
    redis.config_resetstat()
    for number in range(20):
        producer.publish(number, exchange='', routing_key='jobs')
    sent = commands(redis)
    assert sent.pop('evalsha') == 20
    # The rest is what the script calls.
    assert not set(sent) & {'get', 'smembers', 'sismember', 'ping', 'multi', 'eval', 'lpush', 'info', 'select'}
    JOBS(channel).purge()


def test_a_server_without_the_script_gets_it(channel, producer, redis):
    put(producer, 1)
    redis.script_flush()
    put(producer, 2)
    assert [JOBS(channel).get(no_ack=True).payload for _ in range(2)] == [1, 2]


def test_a_program_that_does_other_things_finds_its_connection_alive(server, monkeypatch):
    monkeypatch.setattr(reader, 'READ_OVERDUE', 0.3)
    with Connection(server.url('qos')) as connection:
        queue = connection.SimpleQueue('q')
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.05)
        away = monotonic()
        until(lambda: monotonic() - away > 0.5)
        queue.put('x')
        assert queue.get(timeout=5).payload == 'x'


def test_a_connection_that_went_silent_is_lost(server, monkeypatch):
    monkeypatch.setattr(reader, 'READ_OVERDUE', 0.5)
    with Connection(server.url('qos')) as connection:
        queue = connection.SimpleQueue('q')
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.05)
        server.client().client_pause(3000)
        with pytest.raises(connection.connection_errors, match='no reply to a read'):
            while True:
                with suppress(queue.Empty):
                    queue.get(timeout=0.1)
        server.client().execute_command('CLIENT', 'UNPAUSE')


def test_the_sweep_announces_what_is_discarded_while_the_connection_is_lost(connection):
    discarded = Discarded(connection.channel())
    connection.collect()
    discarded.announce('jobs')


#: Consumes, leaves for long enough that the thread which renews leases ends, and consumes again.
CONSUMES_TWICE = '''
from gevent import monkey; monkey.patch_all()
import logging, sys, time
logging.basicConfig(level=logging.INFO)
from kombu import Connection
for number in range(2):
    with Connection(sys.argv[1], transport_options={'qos': {'lease_seconds': 1}}) as connection:
        queue = connection.SimpleQueue('jobs')
        queue.put({}, headers={'task': 'x', 'id': str(number)})
        queue.get(timeout=5).ack()
        time.sleep(0.6)
        queue.close()
    time.sleep(0.6)
'''


def test_a_green_program_consumes_again_after_a_while(server):
    done = subprocess.run([sys.executable, '-c', CONSUMES_TWICE, server.url('qos')], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0 and 'goes on after an error' not in done.stderr, done.stderr
