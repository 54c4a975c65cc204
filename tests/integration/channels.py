"""Kombu's connections and consumers, without a worker."""
from __future__ import annotations

from kombu import Consumer, Producer, Queue

from celery_qos import keys

from ..until import until

JOBS = Queue('jobs')


def drain(connection, timeout=0.05):
    """Handle events until none comes any more."""
    try:
        while True:
            connection.drain_events(timeout=timeout)
    except TimeoutError:
        pass


def keep_all(message):
    """As a worker says of the tasks that it runs."""
    return True


def take_one(connection, messages):
    """Publish a task, consume it, and do not settle it."""
    Consumer(connection, [JOBS], on_message=messages.append).consume()
    publish(connection, 'x')
    until(lambda: drain(connection) or messages)
    return messages.pop()


def publish(connection, *bodies):
    for body in bodies:
        Producer(connection).publish(body, routing_key='jobs')


def unsettled(redis):
    return redis.xpending(keys.egress(keys.namespace('jobs')), keys.GROUP)['pending']
