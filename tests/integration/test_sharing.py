"""Threads, greenlets and connections that share a process: none holds up another, or takes what is another's."""
from __future__ import annotations

from time import sleep

import pytest
from kombu import Connection, Consumer

from celery_qos import keys

from ..until import until
from .channels import JOBS, keep_all, take_one, unsettled

SHORT_LEASE = {'qos': {'lease_seconds': 1}}


def test_an_ack_that_is_broken_off_is_sent_later(server, redis, monkeypatch):
    with Connection(server.url('qos')) as connection:
        message = take_one(connection, [])

        def stop(*args):
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(connection.default_channel.member.settler, '_send', stop)
            with pytest.raises(SystemExit):
                message.ack()
        assert unsettled(redis) == 1
        connection.default_channel.flush()
        assert unsettled(redis) == 0


def test_a_close_right_after_redis_refused_an_ack_settles_it(server, redis, monkeypatch):
    with Connection(server.url('qos')) as connection:
        message = take_one(connection, [])

        def fail(*args):
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(connection.default_channel.member.settler, '_send', fail)
            message.ack()
        assert unsettled(redis) == 1
    with Connection(server.url('qos')) as connection:
        assert JOBS(connection.default_channel).get() is None


def test_a_worker_keeps_its_own_tasks_only(server, redis):
    """In the worker's process a task may consume by itself, and lose its connection."""
    with Connection(server.url('qos'), transport_options=SHORT_LEASE) as worker:
        worker.default_channel.join(keep_all)
        with Connection(server.url('qos'), transport_options=SHORT_LEASE) as connection:
            take_one(connection, [])
            connection.collect()
            until(lambda: unsettled(redis) == 0, timeout=5)
            assert not redis.exists(keys.slots(keys.namespace('jobs')))


def test_a_lease_that_begins_without_a_queue_is_renewed_in_time(server, redis):
    options = {'qos': {'lease_seconds': 60, 'queues': {'jobs': {'lease_seconds': 1}}}}
    # A key prefix of its own, as the process keeps the options that a database was first used with.
    with Connection(server.url('qos'), transport_options={**options, 'global_keyprefix': 'own.'}) as connection:
        lease = connection.default_channel.join(keep_all)
        sleep(0.1)
        with Consumer(connection, [JOBS], on_message=lambda message: None):
            sleep(1.5)
            lease_end = redis.zscore(keys.leases(keys.namespace('jobs', 'own.')), lease.consumer)
            assert lease_end > redis.time()[0] * 1000
