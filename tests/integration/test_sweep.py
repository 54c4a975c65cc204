"""The sweep loops of real workers: how many there are, how often they look, and what wakes them."""
from __future__ import annotations

from contextlib import contextmanager
from time import monotonic, sleep, time
from uuid import uuid4

import pytest
from kombu import Connection, Consumer, Queue

from celery_qos import keys
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
    """When this process swept, and what came of it."""
    found = []
    original = Store.sweep

    def sweep(self, *args):
        result = original(self, *args)
        found.append((monotonic(), result))
        return result

    monkeypatch.setattr(Store, 'sweep', sweep)
    return found


@contextmanager
def consuming(server, **qos):
    """A consumer in this process; yields its key prefix."""
    # Of its own, as the process keeps the options that a database was first used with.
    prefix = f'{uuid4().hex[:8]}.'
    transport_options = {'qos': {'lease_seconds': 60, **qos}, 'global_keyprefix': prefix}
    with Connection(server.url('qos'), transport_options=transport_options) as connection, \
            Consumer(connection, [Queue('jobs')], on_message=lambda message: None):
        yield prefix


def places(redis, queue='celery', prefix=''):
    """Who sweeps the queue."""
    return redis.zrange(keys.sweepers(keys.namespace(queue, prefix)), 0, -1)


def blocks(sweeps):
    """How many iterations there were in a row, for each block that came after them; the last is left out."""
    rows = [1]
    for (before, _), (after, _) in zip(sweeps, sweeps[1:]):
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
