"""The tasks of a group are published together."""
from __future__ import annotations

from threading import Thread, Timer

import pytest
from celery import Celery, chord, group, signals
from kombu.exceptions import EncodeError, OperationalError

from benchmarks.brokers import QosBroker
from benchmarks.wire import Wired
from celery_qos import keys
from celery_qos.config import QoS, Tenant
from celery_qos.errors import QueueFull

MEMBERS = 250


def make_app(url, qos=None, **options):
    app = Celery('groups', broker=url, backend='cache+memory://', set_as_current=False)
    app.conf.update(broker_transport_options={'qos': qos or QoS(), **options}, task_publish_retry_policy={
        'max_retries': 10, 'interval_start': 0.1, 'interval_step': 0, 'interval_max': 0.1})

    @app.task(name='work', tenant_key='account', shared=False)
    def work(account, number):
        return number

    return app


@pytest.fixture
def app(server):
    with make_app(server.url('qos')) as app:
        yield app


def bodies(app, redis, tenant='a'):
    """The second argument of each task that waits."""
    entries = redis.xrange(keys.tenant_stream(keys.namespace('celery'), tenant))
    return [app.backend.decode(fields[b'body'])[0][1] for _, fields in entries]


def test_in_a_round_trip_for_each_hundred(server):
    with Wired(QosBroker, server.socket) as broker, make_app(broker.url) as app:
        app.tasks['work'].delay('warm', 0)
        with broker.wire.recording() as trips:
            group(app.tasks['work'].s('a', number) for number in range(MEMBERS)).delay()
    enqueues = trips.of(lambda turn: 'enqueue' in turn.commands)
    assert sum(enqueues.top_level.values()) == MEMBERS
    assert sum(enqueues.turns.values()) == 3


def test_in_their_order_each_for_its_tenant(app, redis):
    signatures = [app.tasks['work'].s('ab'[number % 2], number) for number in range(MEMBERS)]
    result = group(signatures).delay()
    assert len(result.results) == MEMBERS
    assert bodies(app, redis, 'a') == list(range(0, MEMBERS, 2))
    assert bodies(app, redis, 'b') == list(range(1, MEMBERS, 2))


def test_groups_in_groups_and_the_header_of_a_chord(app, redis):
    work = app.tasks['work']
    inner = group(work.s('a', number) for number in range(1, 4))
    group(work.s('a', 0), inner, work.s('a', 4)).delay()
    assert bodies(app, redis) == [0, 1, 2, 3, 4]
    chord([work.s('b', number) for number in range(3)], work.si('b', 'body')).delay()
    assert bodies(app, redis, 'b') == [0, 1, 2]


def test_one_that_finds_no_room_keeps_no_other_out(server, redis):
    with make_app(server.url('qos'), QoS(tenants={'full': Tenant(capacity=1)})) as app:
        work = app.tasks['work']
        with pytest.raises(QueueFull, match="'full'"):
            group(work.s('full', 0), work.s('full', 1), work.s('a', 2)).delay()
        assert bodies(app, redis, 'full') == [0]
        assert bodies(app, redis) == [2]


def test_what_was_published_before_an_error_is_there(app, redis):
    work = app.tasks['work']
    with pytest.raises(EncodeError):
        group(work.s('a', 0), work.s('a', 1), work.s('a', object())).delay()
    assert bodies(app, redis) == [0, 1]
    work.delay('a', 2)
    assert bodies(app, redis) == [0, 1, 2]


def test_each_enters_once_where_the_replies_are_lost(server, redis):
    """The server is silent for longer than the publisher waits for it, and then does all that it was sent."""
    with make_app(server.url('qos'), socket_timeout=0.2) as app:
        app.tasks['work'].delay('warm', 0)

        def pause(headers, body, **kwargs):
            if body[0][1] == 2:
                redis.client_pause(1000)

        signals.before_task_publish.connect(pause)
        try:
            group(app.tasks['work'].s('a', number) for number in range(3)).delay()
        finally:
            signals.before_task_publish.disconnect(pause)
        assert bodies(app, redis) == [0, 1, 2]


def test_none_is_lost_in_silence_where_the_server_refuses_them(server, redis):
    with make_app(server.url('qos')) as app:
        app.conf.task_publish_retry_policy['max_retries'] = 1
        work = app.tasks['work']
        work.delay('a', 0)
        redis.config_set('maxmemory', 1)
        try:
            with pytest.raises(OperationalError, match='maxmemory'):
                group(work.s('a', number) for number in range(1, 4)).delay()
        finally:
            redis.config_set('maxmemory', 0)
        group(work.s('a', number) for number in range(4, 6)).delay()
        assert bodies(app, redis) == [0, 4, 5]


def test_each_enters_once_where_the_server_refuses_them_for_a_moment(server, redis):
    with make_app(server.url('qos')) as app:
        work = app.tasks['work']
        work.delay('a', 0)
        redis.config_set('min-replicas-to-write', 1)
        later = Timer(0.5, redis.config_set, ('min-replicas-to-write', 0))
        later.start()
        try:
            group(work.s('a', number) for number in range(1, 4)).delay()
        finally:
            later.join()
        assert bodies(app, redis) == [0, 1, 2, 3]


def test_what_another_thread_publishes_meanwhile_is_published_at_once(app, redis):
    work = app.tasks['work']

    def publish_in_a_thread(headers, body, **kwargs):
        if body[0][1] == 1:
            thread = Thread(target=work.apply_async, args=(('b', 2),), kwargs={'producer': producer})
            thread.start()
            thread.join()
            assert bodies(app, redis, 'b') == [2] and bodies(app, redis) == []

    signals.before_task_publish.connect(publish_in_a_thread)
    try:
        with app.producer_pool.acquire(block=True) as producer:
            group(work.s('a', 0), work.s('a', 1)).apply_async(producer=producer)
    finally:
        signals.before_task_publish.disconnect(publish_in_a_thread)
    assert bodies(app, redis) == [0, 1] and bodies(app, redis, 'b') == [2]


def test_another_transport_is_left_alone(app):
    with make_app('memory://') as other:
        group(other.tasks['work'].s('a', number) for number in range(3)).delay()
        with other.connection_for_read() as connection:
            assert connection.default_channel.queue_declare('celery', passive=True).message_count == 3
