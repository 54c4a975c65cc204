"""A connection that is lost while something is under way: no task stays with who cannot have it, or comes twice."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kombu import Connection, Consumer
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .channels import JOBS, drain, keep_all, publish, take_one, unsettled
from .proxy import Proxy


@pytest.fixture
def proxy(server):
    """Of the end of a connection, the server hears nothing."""
    with Proxy(server, hides_ends=True) as proxy:
        yield proxy


def consume(connection, messages):
    """As a worker that keeps what it runs; a read is out then."""
    connection.default_channel.join(keep_all)
    Consumer(connection, [JOBS], on_message=messages.append).consume()
    drain(connection)


def test_the_read_of_a_lost_connection_takes_nothing(server, proxy):
    """Else its task would be with a consumer that never got it, for as long as that lives."""
    messages = []
    with Connection(server.url('qos')) as producer, Connection(proxy.url('qos')) as connection:
        consume(connection, messages)
        connection.collect()
        connection.default_channel.join(keep_all)
        Consumer(connection, [JOBS], on_message=messages.append).consume()
        publish(producer, 'x')
        until(lambda: drain(connection) or messages, 3)


def test_the_read_of_a_closed_connection_takes_nothing(server, proxy):
    """Else its task would wait until the server takes it from a consumer that is no more."""
    messages = []
    with Connection(server.url('qos')) as other, Connection(proxy.url('qos')) as connection:
        consume(connection, [])
        consume(other, messages)
        connection.close()
        publish(other, 'x')
        until(lambda: drain(other) or messages, 3)


def test_who_has_the_number_of_a_lost_connection_now_is_let_be(server):
    with EmbeddedRedis(server.binary) as own, Connection(own.url('qos')) as connection:
        consume(connection, [])
        own.kill()
        own.start()
        # The server counts from 1 again.
        other = own.client()
        connection.default_channel.reader.connection_id = other.client_id()
        waiting = ThreadPoolExecutor().submit(other.blpop, 'key', 10)
        until(lambda: own.client().info('clients')['blocked_clients'])
        connection.collect()
        consume(connection, [])
        own.client().rpush('key', 'value')
        assert waiting.result() == (b'key', b'value')


@pytest.mark.parametrize('step', ['settle', '_send'])
def test_an_ack_under_way_while_the_connection_is_made_anew_counts(server, monkeypatch, step):
    messages = []
    with Connection(server.url('qos')) as connection:
        connection.default_channel.join(keep_all)
        message = take_one(connection, messages)
        settler = connection.default_channel.member.settler
        act, began, may_go_on = getattr(settler, step), threading.Event(), threading.Event()

        def act_slowly(*args):
            began.set()
            may_go_on.wait(5)
            act(*args)

        monkeypatch.setattr(settler, step, act_slowly)
        acking = threading.Thread(target=message.ack)
        acking.start()
        assert began.wait(5)
        connection.collect()
        threading.Timer(0.2, may_go_on.set).start()
        connection.default_channel.join(keep_all)
        with Consumer(connection, [JOBS], on_message=messages.append):
            drain(connection)
        acking.join()
        assert messages == []


def test_a_connection_that_is_lost_while_it_is_made_anew_keeps_its_lease(server, redis, monkeypatch):
    with Connection(server.url('qos')) as connection:
        lease = connection.default_channel.join(keep_all)
        message = take_one(connection, [])
        connection.collect()
        channel = connection.default_channel

        def fail(*args):
            raise RedisConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(channel.member.store, 'reclaim', fail)
            with pytest.raises(RedisConnectionError):
                channel.join(keep_all)
        assert channel.join(keep_all) is lease
        message.ack()
        until(lambda: drain(connection) or not unsettled(redis))
