"""Redis restarts, forgets, refuses, fills up or falls silent: workers go on without a restart, and say so once."""
from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import celery
import pytest
from kombu.exceptions import OperationalError

from celery_qos import keys
from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .ledger import Ledger
from .logs import ours
from .pools import POOLS
from .proxy import Proxy
from .workers import Worker

pytestmark = pytest.mark.once

NS = keys.namespace('celery')
PASSWORD = 's3cret'
SHORT_LEASE = {'broker_transport_options': {'qos': {'lease_seconds': 2}}}
#: A publisher that waits for Redis to come back.
PATIENT = {'max_retries': 100, 'interval_start': 0.1, 'interval_step': 0, 'interval_max': 0.1}
#: Seconds until a worker consumes again; Celery's own pause between two tries is 2, then 4.
SECONDS = 10.0


@pytest.fixture
def own(server):
    """A server that may be broken, started with whatever else is wanted."""
    running = []

    def start(*arguments: str) -> EmbeddedRedis:
        running.append(EmbeddedRedis(server.binary, '--loglevel', 'warning', *arguments).start())
        return running[-1]

    yield start
    for each in running:
        each.stop()


class Watch:
    """What a worker says of faults."""

    def __init__(self, worker: Worker, ledger: Ledger) -> None:
        self.worker, self.ledger = worker, ledger
        self._read = 0

    @contextmanager
    def fault(self, name: str, reconnects: int = 1, seconds: float = SECONDS) -> Iterator[None]:
        """Whatever happens inside: afterwards the worker consumes again, and has told of it with few lines.

        Arguments:
            reconnects: how often Celery says that the connection was lost.
            seconds: until it consumes again.
        """
        self._read = len(self.worker.log())
        yield
        self.ledger.send('t', f'after {name}', retry_policy=PATIENT)
        until(lambda: f'after {name}' in self.ledger.marks('end'), seconds, f'{name}: {self.worker.log()[self._read:]}')
        log = self.worker.log()[self._read:]
        told = Counter(line.partition(' of ')[0][:30] for line in ours(log))
        assert all(count == 1 for count in told.values()), f'{name}: {told}\n{log}'
        assert log.count('Connection to broker lost') <= reconnects, f'{name}: {log}'
        # Kombu 5.7 has one of its own where its script is gone; Celery, of its green remote control, and before 5.7 of
        # every connection that is lost.
        theirs = ('maybe_refresh_binding_expiry', 'celery/worker/pidbox.py')
        if celery.VERSION >= (5, 7):
            assert 'Traceback' not in log or any(each in log for each in theirs), f'{name}: {log}'
        assert 'the lease thread' not in log
        assert PASSWORD not in log
        assert self.worker.returncode is None


@pytest.mark.parametrize('pool', POOLS)
def test_a_worker_goes_on(server, own, pool):
    redis = own('--appendonly', 'yes', '--appendfsync', 'always')
    ledger = Ledger(redis, SHORT_LEASE, book=server)
    with ledger.worker(pool, 2, ('--without-mingle',)) as worker:
        watch = Watch(worker, ledger)
        client = redis.client()

        with watch.fault('SCRIPT FLUSH', reconnects=0):
            client.script_flush()

        with watch.fault('FLUSHALL'):
            client.flushall()

        with watch.fault('group'):
            client.xgroup_destroy(keys.egress(NS), keys.GROUP)

        with watch.fault('memory'):
            for number in range(12):
                ledger.send('t', f'full {number}', seconds=0.05, task='late')
            client.config_set('maxmemory', 1)
            client.client_kill_filter(_type='normal', skipme=True)
            with pytest.raises(OperationalError, match='memory'):
                ledger.send('t', 'refused', retry=False)
            until(lambda: {f'full {number}' for number in range(12)} <= set(ledger.marks('end')), SECONDS, worker.log())
            client.config_set('maxmemory', 0)

        with watch.fault('restart'):
            for number in range(4):
                ledger.send('t', f'kept {number}', seconds=1, task='late')
            until(lambda: 'kept 0' in ledger.marks('start'))
            redis.kill()
            redis.start()
        until(lambda: {f'kept {number}' for number in range(4)} <= set(ledger.marks('end')), SECONDS, worker.log())

        with watch.fault('replica', reconnects=2):
            client.replicaof('127.0.0.1', 1)
            worker.wait_for('(?s)again in .*read only replica.* again in ')
            client.replicaof('NO', 'ONE')

        ledger.until_idle()
        twice = [mark for mark, count in Counter(ledger.marks('start')).items() if count > 1]
        assert twice == [], worker.log()
        worker.terminate()
        assert worker.wait() == 0
        until(lambda: ledger.stray_keys() == [], what=str(ledger.stray_keys()))


def test_an_outage_ends_no_lease(server, own):
    """Longer than the lease: whoever lives renews before anybody looks who does not."""
    redis = own('--appendonly', 'yes', '--appendfsync', 'always')
    ledger = Ledger(redis, SHORT_LEASE, book=server)
    with ledger.worker('threads', 2) as one, ledger.worker('prefork', 2) as other:
        watches = Watch(one, ledger), Watch(other, ledger)
        for number in range(4):
            ledger.send('t', f'{number}', seconds=7, task='late')
        ledger.until('start', 4)
        with watches[0].fault('outage'), watches[1].fault('outage'):
            redis.kill()
            for worker in one, other:
                worker.wait_for(r'(?s)Trying again in 4')
            redis.start()
        ledger.until('end', 4)
        ledger.until_idle()
        assert 'had ended' not in one.log() + other.log() and 'has ended' not in one.log() + other.log()
    assert Counter(mark for mark in ledger.marks('start') if mark.isdigit()) == Counter('0123')


def test_nothing_left_then_a_long_load_then_no_replica(server, own):
    redis = own('--key-load-delay', '20000', '--rdbcompression', 'no')
    ledger = Ledger(redis, SHORT_LEASE, book=server)
    with ledger.worker('solo', 1, ('--without-mingle',)) as worker:
        watch = Watch(worker, ledger)
        with watch.fault('restart'):
            redis.kill()
            redis.start()

        client = redis.client()
        client.mset({f'ballast {number}': 'x' * 100_000 for number in range(150)})
        client.save()
        with watch.fault('loading'):
            redis.kill()
            redis.start()
            assert 'loading' in worker.log()

        with watch.fault('no replica', reconnects=2):
            client.config_set('min-replicas-to-write', 1)
            worker.wait_for('(?s)Cannot connect.*Not enough good replicas')
            client.config_set('min-replicas-to-write', 0)


@pytest.mark.parametrize('pool', ['prefork', 'gevent'])
def test_connections_that_fall_silent(server, own, pool):
    redis = own()
    with Proxy(redis) as proxy:
        ledger = Ledger(redis, book=server, url=proxy.url('qos'))
        with ledger.worker(pool, 2) as worker:
            ledger.send('t', 'before')
            ledger.until('end', 1)
            watch = Watch(worker, ledger)
            with watch.fault('silence', seconds=25):
                assert proxy.hang() >= 4
            assert 'had ended' not in worker.log()
            assert PASSWORD not in worker.log()


def test_a_paused_worker(server):
    """Its tasks run elsewhere; what it settles late changes nothing, and it works on."""
    conf = {'broker_transport_options': {'qos': {'lease_seconds': 2, 'default_tenant': {'max_in_flight': 10}}}}
    ledger = Ledger(server, conf)
    with ledger.worker('threads', 2, options=('--prefetch-multiplier=1',)) as paused:
        for number in range(2):
            ledger.send('t', f'{number}', seconds=1, task='late')
        ledger.until('start', 2)
        paused.signal(signal.SIGSTOP)
        with ledger.worker('threads', 2) as heir:
            assert Counter(ledger.until('end', 2)) == Counter('01')
            ledger.until_idle()
            assert len(ours(heir.log())) == 1 and '2 tasks are delivered again' in heir.log()
            heir.terminate()
            heir.wait()
        with Watch(paused, ledger).fault('pause', reconnects=1):
            ledger.send('t', 'waiting', seconds=0.5, task='late')
            paused.signal(signal.SIGCONT)
            paused.wait_for('had ended: registered again')
        ledger.until('end', 6)
        ledger.until_idle()
        assert Counter(ledger.marks('start')) == Counter({'0': 2, '1': 2, 'waiting': 1, 'after pause': 1})
        paused.terminate()
        assert paused.wait() == 0
    until(lambda: ledger.stray_keys() == [], what=str(ledger.stray_keys()))
