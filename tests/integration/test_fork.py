"""A forked child that cleans up after its parent's connection takes nothing from the parent."""
from __future__ import annotations

import os
import socket
from multiprocessing import util

import pytest
from kombu import Connection, Consumer, Producer, Queue

QUEUES = {
    'tasks': Queue('forked'),
    'replies': Queue('forked.reply', durable=False, auto_delete=True, expires=60),
}
CLEANUPS = {
    'after fork': lambda connection: util._run_after_forkers(),
    'collect': Connection.collect,
    'close': Connection.close,
}


@pytest.mark.parametrize('kind', QUEUES)
@pytest.mark.parametrize('cleanup', CLEANUPS)
def test_a_parent_consumes_after_its_child_cleaned_up(server, kind, cleanup):
    received = []
    with Connection(server.url('qos')) as connection:
        consumer = Consumer(connection, [QUEUES[kind]], on_message=received.append, no_ack=True)
        consumer.consume()
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.1)
        child = os.fork()
        if not child:
            try:
                CLEANUPS[cleanup](connection)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with Connection(server.url('qos')) as other:
            Producer(other).publish('hello', routing_key=QUEUES[kind].name)
        connection.drain_events(timeout=5)
        assert [message.payload for message in received] == ['hello']
