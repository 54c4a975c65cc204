"""The users of Redis that docs/security.md proposes, on real servers: what each can do, and cannot."""
from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery, group
from kombu import pools
from kombu.exceptions import OperationalError
from prometheus_client import generate_latest
from redis import Redis
from redis.exceptions import ResponseError

import celery_qos
from celery_qos import QoS, SubQueue, Tenant, keys
from celery_qos.bell import Bell
from celery_qos.embedded import EmbeddedRedis
from celery_qos.metrics import Collector
from celery_qos.observe.waits import queue_waits, tenant_waits, totals
from celery_qos.store import Store
from tests.until import until

from .ledger import Ledger
from .workers import ROOT

NS = keys.namespace('celery')
#: What redis-py tries on each connection to a server of 7.2 or later, and can do without.
OPTIONAL = ('client|setinfo', 'client')


def rules() -> dict[str, list[str]]:
    """The words of each proposed command."""
    page = (ROOT / 'docs' / 'security.md').read_text(encoding='utf-8')
    return {name: words.split() for name, words in re.findall(r'<!-- acl (\w+) -->\n```\n(.*?)```', page, re.DOTALL)}


@pytest.fixture
def users(server: EmbeddedRedis) -> Iterator[dict[str, list[str]]]:
    """They exist, and whatever they are refused is in the server's ACL LOG."""
    admin, proposed = server.client(), rules()
    for name in 'worker', 'producer', 'monitor':
        admin.execute_command(*proposed[name])
    admin.execute_command('ACL', 'LOG', 'RESET')
    yield proposed
    admin.execute_command('ACL', 'DELUSER', 'worker', 'producer', 'monitor')
    pools.reset()


def restrict(server: EmbeddedRedis, users: dict[str, list[str]]) -> bool:
    """Take the last from producers, on a server that can."""
    admin = server.client()
    can = int(str(admin.info('server')['redis_version']).split('.')[0]) >= 7
    if can:
        admin.execute_command(*users['strict'])
    return can


def url(server: EmbeddedRedis, user: str) -> str:
    return f'qos+socket://{user}:password@{server.socket}?virtual_host=0'


def as_user(server: EmbeddedRedis, user: str) -> Redis:
    return Redis(unix_socket_path=server.socket, username=user, password='password')


def refused(server: EmbeddedRedis, user: str) -> list[tuple[str, str, str]]:
    """What `user` tried in vain."""
    found = server.client().execute_command('ACL', 'LOG', 100)
    rows = [dict(zip(*[iter(row)] * 2)) if isinstance(row, list) else row for row in found]
    texts = [{_text(name): _text(value) for name, value in row.items()} for row in rows]
    return [(row['reason'], row['context'], row['object']) for row in texts
            if row['username'] == user and row['object'] not in OPTIONAL]


def what_a_producer_is_refused(server: EmbeddedRedis) -> set[str]:
    """The scripts see what it may not by a refusal, on a server before 7."""
    return {name for _, _, name in refused(server, 'producer')}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Producers(Ledger):
    """A ledger whose tasks are published by one user, and whose workers are another."""

    def __init__(self, server: EmbeddedRedis, **conf: object) -> None:
        super().__init__(server, conf)
        self.app = Celery('producer', broker=url(server, 'producer'), set_as_current=False)
        self.app.conf.update(self.conf)
        self._url = url(server, 'worker')


#: What returns the content of a task, or lists what would lead to one; with a key put in for {}.
READS = [
    'XRANGE {} - +', 'XREVRANGE {} + -', 'XREAD STREAMS {} 0', 'XREADGROUP GROUP workers me STREAMS {} >',
    'XCLAIM {} workers me 0 1-1', 'XAUTOCLAIM {} workers me 0 0', 'XINFO STREAM {}', 'XPENDING {} workers', 'DUMP {}',
    'COPY {} {}2', 'MIGRATE localhost 1 {} 0 1', 'DEBUG OBJECT {}', 'HGETALL {}', 'HVALS {}', 'HKEYS {}', 'HSCAN {} 0',
    'HRANDFIELD {} 9 WITHVALUES', 'ZRANGE {} 0 -1', 'SORT {}', 'LRANGE {} 0 -1', 'BLPOP {} 1', 'SCAN 0', 'KEYS *',
    'MONITOR', 'PSUBSCRIBE *', 'CONFIG SET dir /tmp', 'ACL LIST', 'CLIENT LIST', 'FUNCTION LIST', 'SCRIPT KILL']


def succeeded(client: Redis, commands: list[str], key: str) -> list[str]:
    """Those of `commands` that the server does not refuse, sent as such or from a script."""
    found = []
    for command in commands:
        words = command.format(key, key).split()
        for attempt in (words, ['EVAL', 'return redis.call(unpack(ARGV))', 0, *words]):
            try:
                found.append((attempt[0], words, client.execute_command(*attempt)))
            except ResponseError as exc:
                # Some are not for scripts, or not for anybody, and some are not there before a later version.
                if not any(part in str(exc).lower() for part in (
                        'permission', "can't run this command", "can't access", 'not allowed', 'unknown')):
                    found.append((attempt[0], words, str(exc)))
    return found


def test_workers_and_producers_get_by(server, users):
    restrict(server, users)
    ledger = Producers(server, broker_transport_options={'qos': {'lease_seconds': 2}}, worker_send_task_events=True)
    operator = Celery('operator', broker=url(server, 'worker'), set_as_current=False)
    ledger.send('early bird')       # no worker yet
    with ledger.worker('prefork') as worker, ledger.worker('solo') as doomed:
        doomed.kill()
        signature = ledger.app.signature('tests.integration.apps.ledger.early')
        group(signature.clone((f'g{number}', 'group')) for number in range(3)).apply_async(add_to_parent=False)
        ledger.send('a', 'countdown', countdown=0.5)
        ledger.send('a', 'eta', eta=datetime.now(timezone.utc) + timedelta(seconds=0.5))
        ledger.send('a', 'priority', priority=9)
        ledger.send('a', 'again', task='picky')
        ledger.until('end', 8)
        assert operator.control.inspect([worker.name], timeout=5, limit=1).ping() == {worker.name: {'ok': 'pong'}}
        until(lambda: server.client().zcard(keys.leases(NS)) == 1)
        worker.terminate()
        assert worker.wait() == 0, worker.log()
    operator.close()
    assert refused(server, 'worker') == []
    assert what_a_producer_is_refused(server) <= {'xrange'}
    assert ledger.stray_keys() == []


def test_a_producer_reads_no_task(server, users):
    store = Store(server.client())
    store.enqueue('celery', 'acme', 0, {'body': 'secret'})
    store.lease('celery', 'w', 1, 60)
    store.enqueue('celery', 'acme', 0, {'body': 'secret'})
    producer = as_user(server, 'producer')
    for key in keys.tenant_stream(NS, 'acme'), keys.egress(NS), keys.waiting(NS):
        assert server.client().exists(key)
        assert succeeded(producer, READS, key) == []
    store.enqueue('celery', 'acme', 0, {'body': 'secret'}, task_id='later', due_ms=2 ** 42)
    delayed = keys.delayed_tasks(NS), keys.delayed(NS)
    for key in delayed:
        assert succeeded(producer, READS, key) == []
    if restrict(server, users):
        for key in keys.tenant_stream(NS, 'acme'), *delayed:
            assert succeeded(producer, READS, key) == []
        assert succeeded(producer, ['HGET {} 1:later', 'HMGET {} 1:later', 'RENAME {} {}2'], delayed[0]) == []
    for other in 'celery-task-meta-1', 'abc.reply.celery.pidbox':
        assert succeeded(producer, ['GET {}', 'HGET {} x', 'SMEMBERS {}', 'DEL {}', 'XADD {} * a b'], other) == []


def test_what_a_producer_publishes_is_dispatched_by_the_sweep(server, users):
    """It gets as far as it can without a look at what others publish; no account is lost."""
    producer, worker = Store(as_user(server, 'producer')), Store(as_user(server, 'worker'))
    queues = [SubQueue('high', capacity=2, weight=1, on_full='drop-oldest'), SubQueue('low', capacity=99, weight=1)]
    qos = QoS(queues=queues, tenants={'capped': Tenant(max_in_flight=1)})
    worker.declare('celery', qos.fingerprint, qos.stored, qos.structure)
    other = QoS(algorithm='rr', queues=queues)
    producer.declare('celery', other.fingerprint, other.stored, other.structure)
    assert worker.settings('celery', 'queue')['algorithm'] == 'wrr'

    worker.lease('celery', 'w', 5, 60)
    assert producer.enqueue('celery', 'acme', 0, {'body': '1'}, 'low') == 'egress'
    assert producer.enqueue('celery', 'capped', 0, {'body': '2'}, 'low') == 'waits'
    for number in range(3, 6):
        producer.enqueue('celery', 'globex', number, {'body': str(number)}, 'high')
    producer.enqueue('celery', 'initech', 0, {'body': '6'}, 'low')
    producer.enqueue('celery', 'initech\x1fann', 0, {'body': '7'}, 'low')
    assert server.client().hgetall(keys.waiting(NS)) == {
        b'high': b'2', b'high:globex': b'2', b'low': b'3', b'low:capped': b'1', b'low:initech': b'2',
        b'low:initech\x1f': b'1', b'low:initech\x1fann': b'1'}
    assert server.client().xlen(keys.egress(NS)) == 1
    assert Bell(worker).wait(['celery'], 1) == 'celery'
    worker.sweep('celery', 10, 's')
    bodies = [delivery.fields[b'body'] for delivery in worker.take(['celery'], 'w', 9)]
    assert len(bodies) == 5 and {b'1', b'2', b'6'} < set(bodies)
    worker.lease('celery', 'w', 9, 60)
    assert server.client().exists(keys.waiting(NS)) == 0
    assert refused(server, 'worker') == []
    assert what_a_producer_is_refused(server) <= {'xrange'}


def test_a_producer_needs_no_worker_to_come_first(server, users):
    app = Celery('first', broker=url(server, 'producer'), set_as_current=False)
    celery_qos.setup(app, QoS(tenants={'gold': Tenant(weight=5)}))
    app.send_task('job', tenant='gold')
    app.close()
    assert server.client().xlen(keys.tenant_stream(NS, 'gold')) == 1
    workers = Celery('second', broker=url(server, 'worker'), set_as_current=False)
    celery_qos.setup(workers, QoS(tenants={'gold': Tenant(weight=5)}))
    with workers.connection_for_read() as connection:
        message = connection.SimpleQueue('celery').get(timeout=5)
        assert message.headers['tenant'] == 'gold'
        message.ack()
    assert celery_qos.control(workers).tenant('gold')['weight'] == 5
    workers.close()


def test_without_the_right_to_read_nothing_is_taken_for_gone(server, users):
    """A user with rights of its own making, who may dispatch but not read."""
    store = Store(server.client())
    for _ in range(3):
        store.enqueue('celery', 'acme', 0, {'body': 'x'})
    server.client().execute_command('ACL', 'SETUSER', 'producer', '+@all', '-xrange')
    with pytest.raises(ResponseError):
        Store(as_user(server, 'producer')).lease('celery', 'w', 2, 60)
    assert server.client().hgetall(keys.waiting(NS)) == {b':acme': b'3'}
    assert server.client().xlen(keys.tenant_stream(NS, 'acme')) == 3


def test_monitoring_reads_counts_and_settings_and_writes_nothing(server, users):
    store = Store(server.client())
    store.set('celery', 'tenant:acme', {'weight': 3})
    for _ in range(3):
        store.enqueue('celery', 'acme', 0, {'body': 'secret'})
    store.lease('celery', 'w', 1, 60)
    store.enqueue('celery', 'acme', 0, {'body': 'secret'}, task_id='later', due_ms=2 ** 42)
    store.bury('celery', [delivery.entry_id for delivery in store.take(['celery'], 'w', 1)], 'malformed')
    monitor, app = as_user(server, 'monitor'), Celery('monitor', broker=url(server, 'monitor'), set_as_current=False)
    assert Store(as_user(server, 'monitor')).size('celery') == 3
    control = celery_qos.control(app)
    assert control.tenant('acme')['weight'] == 3
    assert control.counters() == {} and control.sub_queues() == {}
    assert len(control.delayed()) == len(control.dead_letters()) == 1
    assert monitor.hgetall(keys.waiting(NS)) == {b':acme': b'1'}
    assert monitor.xlen(keys.tenant_stream(NS, 'acme')) == 1
    assert monitor.xinfo_groups(keys.egress(NS))[0]['pending'] == 0
    assert monitor.zrange(keys.leases(NS), 0, -1) == [b'w']
    store.note_waits('celery', {(b':acme', 3): 1, (keys.ROOT.encode(), 3): 1}, 0)
    assert queue_waits(monitor, NS)[''].count == totals(monitor, NS)[''].count == 1
    assert list(tenant_waits(monitor, NS)) == [':acme']
    assert refused(server, 'monitor') == []
    metrics = generate_latest(Collector(app, top=1)).decode()
    assert 'celery_qos_up 1.0\n' in metrics and 'celery_qos_oldest_wait_seconds{' not in metrics
    assert 'celery_qos_tenant_waiting_tasks{kind="tenant",queue="celery",sub_queue="",tenant="acme"} 1.0' in metrics
    # A task's entry would say since when it waits.
    assert {name for _, _, name in refused(server, 'monitor')} == {'xrange'}

    before = {key: server.client().dump(key) for key in server.client().keys()}
    with pytest.raises((ResponseError, OperationalError)):
        control.set_tenant('acme', weight=9)
    with pytest.raises((ResponseError, OperationalError)):
        app.send_task('job', tenant='acme', retry=False)
    writes = ['DEL {}', 'UNLINK {}', 'XADD {} * a b', 'XDEL {} 1-1', 'XTRIM {} MAXLEN 0', 'HSET {} a b', 'HDEL {} a',
              'SET {} a', 'RENAME {} {}2', 'EXPIRE {} 1', 'ZADD {} 1 a', 'RPUSH {} a', 'SADD {} a', 'FLUSHALL',
              'PUBLISH x y']
    reads = [command for command in READS if command.split()[0] not in ('HGETALL', 'HSCAN', 'ZRANGE')]
    for key in before:
        assert succeeded(monitor, writes + reads, key.decode()) == []
    assert succeeded(monitor, READS, keys.delayed_tasks(NS)) == []
    assert {key: server.client().dump(key) for key in server.client().keys()} == before
    for stream in keys.tenant_stream(NS, 'acme'), keys.egress(NS):
        assert monitor.exists(stream)
    app.close()
