"""The sweep loops of real workers: how many there are, how often they look, and what wakes them."""
from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from time import monotonic, sleep, time
from uuid import uuid4

import pytest
from kombu import Connection, Consumer, Queue
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from celery_qos import keys
from celery_qos.bell import Bell
from celery_qos.store import Store

from ..until import until
from .ledger import Ledger


def options(lease_seconds=60, **qos):
    return {'broker_transport_options': {'qos': {'lease_seconds': lease_seconds, **qos}}}


@pytest.fixture
def ledger(server):
    return Ledger(server)


@pytest.fixture
def sweeps(monkeypatch):
    """What this process swept, and when."""
    found = []
    original = Store.sweep

    def sweep(self, queue, *args):
        result = original(self, queue, *args)
        found.append((queue, monotonic()))
        return result

    monkeypatch.setattr(Store, 'sweep', sweep)
    return found


@contextmanager
def consuming(server, names=('jobs',), lease_seconds=60, socket_timeout=None, **qos):
    """A consumer in this process."""
    # A key prefix of its own, as the process keeps the options that a database was first used with.
    transport_options = {'qos': {'lease_seconds': lease_seconds, **qos}, 'global_keyprefix': f'{uuid4().hex[:8]}.',
                         'socket_timeout': socket_timeout}
    with Connection(server.url('qos'), transport_options=transport_options) as connection, \
            Consumer(connection, [Queue(name) for name in names], on_message=lambda message: None):
        yield


def places(redis):
    """Who sweeps the queue ``celery``."""
    return redis.zrange(keys.sweepers(keys.namespace('celery')), 0, -1)


def warnings_every(seconds, caplog):
    """Those of the members with that interval: threads of other tests may not have ended yet."""
    return [record for record in caplog.records if record.getMessage().endswith(f'tried again every {seconds} s')]


def blocks(sweeps):
    """How many iterations there were in a row, for each block that came after them; the last is left out."""
    rows = [1]
    for (_, before), (_, after) in zip(sweeps, sweeps[1:]):
        if after - before < 0.2:
            rows[-1] += 1
        else:
            rows.append(1)
    return rows[:-1]


def test_as_many_processes_loop_as_there_are_places(ledger, redis):
    ledger.conf.update(options(lease_seconds=2, egress={'workers': 2}))
    workers = [ledger.worker('solo', 1) for _ in range(3)]
    with workers[0], workers[1], workers[2]:
        until(lambda: len(places(redis)) == 2)
        first = set(places(redis))
        sleep(1)
        assert set(places(redis)) == first
        holder = next(worker for worker in workers if any(f':{worker.pid}:'.encode() in place for place in first))
        holder.kill()
        killed = monotonic()
        until(lambda: len(set(places(redis)) - first) == 1, timeout=5)
        assert monotonic() - killed < 2.5
        gone = next(place for place in first if f':{holder.pid}:'.encode() in place)
        until(lambda: gone not in places(redis), timeout=1)
        assert len(places(redis)) == 2


def test_a_worker_that_ends_gives_its_place_back(ledger, redis):
    ledger.conf.update(options(lease_seconds=20))
    with ledger.worker('solo', 1) as first, ledger.worker('solo', 1):
        place, = until(lambda: places(redis))
        assert f':{first.pid}:'.encode() in place
        first.terminate()
        first.wait()
        assert place not in places(redis)
        until(lambda: places(redis), timeout=5)


@pytest.mark.parametrize('idle_timeout, least, most', [(0.25, 6, 9), (1, 1, 3)])
def test_an_idle_loop_looks_every_idle_timeout(server, sweeps, idle_timeout, least, most):
    with consuming(server, egress={'idle_timeout': idle_timeout}):
        until(lambda: sweeps)
        began = len(sweeps)
        sleep(2)
        assert least <= len(sweeps) - began <= most


@pytest.mark.parametrize('idle_threshold', [1, 5])
def test_an_idle_loop_blocks_after_so_many_blank_iterations(server, sweeps, idle_threshold):
    with consuming(server, egress={'idle_threshold': idle_threshold, 'idle_timeout': 0.4}):
        until(lambda: len(blocks(sweeps)) >= 4)
        assert set(blocks(sweeps)[1:]) == {idle_threshold}


def test_each_queue_has_its_own_idle_timeout(server, sweeps):
    queues = {'often': {'egress': {'idle_timeout': 0.2}}, 'seldom': {'egress': {'idle_timeout': 1}}}
    with consuming(server, ['often', 'seldom'], queues=queues):
        until(lambda: len({queue for queue, _ in sweeps}) == 2)
        began = len(sweeps)
        sleep(2)
        swept = Counter(queue for queue, _ in sweeps[began:])
        assert 7 <= swept['often'] <= 10
        assert 1 <= swept['seldom'] <= 3


def test_a_forked_child_does_not_loop(server, sweeps):
    with consuming(server, egress={'idle_timeout': 0.1}):
        until(lambda: sweeps)
        child = os.fork()
        if not child:
            before = len(sweeps)
            sleep(0.5)
            os._exit(len(sweeps) - before)
        assert os.waitpid(child, 0)[1] == 0


def test_a_block_is_shorter_than_the_timeout_of_the_connection(server, sweeps, caplog):
    with consuming(server, socket_timeout=0.5, egress={'idle_timeout': 30}):
        until(lambda: sweeps)
        sleep(1.5)
        assert len(sweeps) == 1
        assert warnings_every(12, caplog) == []


def test_one_warning_while_redis_is_away(server, sweeps, monkeypatch, caplog):
    def fail(*args):
        raise RedisConnectionError('away')

    with consuming(server, lease_seconds=1, egress={'idle_timeout': 0.1}):
        until(lambda: sweeps)
        with monkeypatch.context() as patch:
            for kind, name in (Store, 'lease'), (Store, 'sweep'), (Bell, 'wait'):
                patch.setattr(kind, name, fail)
            sleep(1)
        began = len(sweeps)
        until(lambda: len(sweeps) > began + 2)
    assert len(warnings_every(0.2, caplog)) == 1


def test_a_user_who_may_not_wait_for_the_bell_sweeps_by_the_clock(server, sweeps, monkeypatch, caplog):
    def fail(*args):
        raise NoPermissionError('blpop')

    monkeypatch.setattr(Bell, 'wait', fail)
    with consuming(server, lease_seconds=2, egress={'idle_timeout': 0.25}):
        until(lambda: sweeps)
        began = len(sweeps)
        sleep(1.5)
        assert 4 <= len(sweeps) - began <= 7
    assert len(warnings_every(0.4, caplog)) == 1


def test_a_task_of_a_limited_rate_starts_when_its_turn_is_due(ledger):
    ledger.conf.update(options(egress={'idle_timeout': 30}, tenants={'slow': {'rate': '1/s'}}))
    with ledger.worker('threads', 4):
        for mark in 'abc':
            ledger.send('slow', mark)
        ledger.until('end', 3)
    starts = [event['at'] for event in ledger.events if event['event'] == 'start']
    assert [later - earlier for earlier, later in zip(starts, starts[1:])] == pytest.approx([1, 1], abs=0.5)


def test_a_loop_that_sleeps_wakes_for_what_is_enqueued(ledger, redis):
    ledger.conf.update(options(egress={'idle_timeout': 30}, tenants={'slow': {'rate': '30/m'}}))
    with ledger.worker('threads', 4):
        ledger.send('slow', 'first')
        ledger.until('end', 1)
        # One connection waits for tasks, the other one for the bell.
        until(lambda: redis.info('clients')['blocked_clients'] == 2)
        sleep(0.5)
        ledger.send('slow', 'second')
        ledger.until('end', 2)
    first, second = [event['at'] for event in ledger.events if event['event'] == 'start']
    assert second - first == pytest.approx(2, abs=0.5)


def test_a_lease_that_ends_is_seen_while_the_loop_sleeps(ledger):
    ledger.conf.update(options(lease_seconds=2, egress={'idle_timeout': 30}))
    with ledger.worker('threads', 1) as dies:
        ledger.send('t', 'a', 10, task='late')
        ledger.until('start', 1)
        with ledger.worker('threads', 1):
            dies.kill()
            killed = time()
            ledger.until('start', 2)
    assert ledger.events[-1]['at'] - killed < 2.5


def test_leases_are_renewed_while_the_loop_sleeps(ledger):
    ledger.conf.update(options(lease_seconds=1, egress={'idle_timeout': 30}))
    with ledger.worker('threads', 1) as first, ledger.worker('threads', 1) as second:
        ledger.send('t', 'a', 3, task='late')
        ledger.until('end', 1)
        assert 'has ended' not in first.log() + second.log()
    assert ledger.marks('start') == ['a']
