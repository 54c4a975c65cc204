"""`celery qos doctor` on servers and queues that were damaged by hand, and on healthy ones that are busy."""
from __future__ import annotations

import json
import subprocess
import sys
from threading import Event, Thread

import pytest
from celery import Celery

import celery_qos
from celery_qos import QoS, SubQueue, Tenant, keys
from celery_qos.doctor import Finding, accounts, examine, reads
from celery_qos.doctor.server import persistence
from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .ledger import Ledger
from .ports import free_port
from .test_acl import url  # noqa: PLC0414
from .test_acl import users as users
from .workers import ROOT, environment

pytestmark = pytest.mark.once

NS = keys.namespace('celery')
#: What a test server is told, being without persistence and, at times, workers.
EXPECTED = ('persistence', 'leases')


def found(app: Celery, fix: bool = False, queue: str = 'celery') -> dict[str, list[Finding]]:
    """Check to what it found that is not ok."""
    rows: dict[str, list[Finding]] = {}
    for each in examine(app, [queue], fix):
        if each.level != 'ok':
            rows.setdefault(each.check, []).append(each)
    return rows


def bad(rows: dict[str, list[Finding]]) -> set[str]:
    return {check for check, each in rows.items() if any(finding.level == 'bad' for finding in each)}


def mended(rows: dict[str, list[Finding]]) -> set[str]:
    return {check for check, each in rows.items() if any(finding.level == 'mended' for finding in each)}


def doctor(server, *options: str) -> tuple[int, dict]:
    """The exit code of the command, and what it said."""
    run = subprocess.run([sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.basic', 'qos', 'doctor',
                          '--json', *options], env=environment(server.url('qos')), cwd=ROOT, text=True,
                         capture_output=True, timeout=60)
    assert not run.stderr, run.stderr
    return run.returncode, json.loads(run.stdout)


@pytest.fixture
def app(server):
    with Celery('doctor', broker=server.url('qos'), set_as_current=False) as app:
        yield app


class TestServer:
    @pytest.mark.parametrize('setting, value, check, text', [
        ('maxmemory-policy', 'allkeys-lru', 'memory', 'no maxmemory is set, so not yet'),
        ('maxmemory-policy', 'volatile-ttl', 'memory', 'Redis deletes keys that expire'),
        ('save', '3600 1', 'persistence', 'snapshots only (save 3600 1)'),
        ('timeout', '5', 'connections', 'timeout is 5'),
        ('tcp-keepalive', '0', 'connections', 'keeps connections of machines that are gone'),
        ('client-output-buffer-limit', 'normal 1000000 0 0', 'connections', 'large tasks'),
    ])
    def test_its_settings(self, app, redis, setting, value, check, text):
        before = redis.config_get(setting)[setting]
        redis.config_set(setting, value)
        try:
            assert text in found(app)[check][0].sentence
        finally:
            redis.config_set(setting, before)

    def test_memory_for_which_tasks_may_be_deleted(self, app, redis):
        redis.config_set('maxmemory-policy', 'allkeys-lru')
        redis.config_set('maxmemory', '10gb')
        try:
            finding, = found(app)['memory']
            assert finding.level == 'bad' and 'noeviction' in finding.remedy
        finally:
            redis.config_set('maxmemory', '0')
            redis.config_set('maxmemory-policy', 'noeviction')

    @pytest.mark.parametrize('arguments, level, text', [
        (('--appendonly', 'yes'), 'ok', 'about one second'),
        (('--appendonly', 'yes', '--appendfsync', 'always'), 'ok', 'loses nothing'),
        (('--appendonly', 'yes', '--appendfsync', 'no'), 'warn', 'half a minute'),
        ((), 'warn', 'writes nothing to disk')])
    def test_what_a_crash_loses(self, server, arguments, level, text):
        with EmbeddedRedis(server.binary, *arguments) as own, \
                Celery('own', broker=own.url('qos'), set_as_current=False) as app:
            finding = next(each for each in examine(app, []) if each.check == persistence.__name__)
            assert finding.level == level and text in finding.sentence

    @pytest.mark.parametrize('user, level, text', [
        ('worker', 'ok', "user 'worker' may do what a worker does"),
        ('producer', 'warn', "user 'producer' may publish, and not work: ZRANGE, HGETALL, XRANGE"),
        ('monitor', 'warn', "user 'monitor' may look, and not publish: HDEL")])
    def test_the_rights_of_its_users(self, server, users, user, level, text):
        with Celery(user, broker=url(server, user), set_as_current=False) as app:
            findings = list(examine(app, ['celery']))
            finding = next(each for each in findings if each.check == 'rights')
            assert finding.level == level and finding.sentence.startswith(text)
            assert user != 'worker' or not any('may not look' in each.sentence for each in findings)

    def test_a_worker_that_lacks_one_right(self, server, users):
        server.client().execute_command('ACL', 'SETUSER', 'worker', '-xack')
        with Celery('worker', broker=url(server, 'worker'), set_as_current=False) as app:
            assert 'XACK refused' in found(app)['rights'][0].sentence

    @pytest.mark.parametrize('seconds, level, text', [
        (0.0, 'ok', 'within 1 s'), (5.0, 'warn', '5.0 s ahead of'), (-40.0, 'bad', 'so much too early'),
        (3600.0, 'bad', '3600.0 s ahead of')])
    def test_a_clock_that_is_off(self, server, seconds, level, text):
        """The whole process has another time than the server."""
        shifted = ('import sys, time; now, off = time.time, float(sys.argv.pop(1)); time.time = lambda: now() + off; '
                   'from celery.__main__ import main; main()')
        run = subprocess.run(
            [sys.executable, '-c', shifted, str(seconds), '-A', 'tests.integration.apps.basic', 'qos', 'doctor',
             '--json'], env=environment(server.url('qos')), cwd=ROOT, text=True, capture_output=True, timeout=60)
        finding = next(each for each in json.loads(run.stdout)['findings'] if each['check'] == 'clock')
        assert (finding['level'], run.returncode) == (level, int(level == 'bad'))
        assert text in finding['sentence'] and ('NTP' in finding['remedy']) == (level != 'ok')

    def test_a_queue_of_another_release(self, app, redis):
        redis.hset(keys.settings(keys.namespace('old')), 'schema', '1')
        assert "queue 'old' is stored with schema version 1" in found(app)['schemas'][0].sentence
        assert bad(found(app, queue='old')) == {'schema'}


class TestQueue:
    def test_another_config_than_the_stored_one(self, server):
        def app_with(qos):
            app = Celery(broker=server.url('qos'), set_as_current=False)
            celery_qos.setup(app, qos)
            return app

        app_with(QoS(tenants={'a': Tenant(2)})).send_task('job')
        assert 'config' not in found(app_with(QoS(tenants={'a': Tenant(2)})))
        finding, = found(app_with(QoS(tenants={'a': Tenant(3)})))['config']
        assert finding.level == 'warn' and 'another one' in finding.sentence
        finding, = found(app_with(QoS('rr')))['config']
        assert finding.level == 'bad' and 'do not start' in finding.sentence

    def test_nobody_sweeps(self, server, store):
        """A worker died long ago, and no other one is there."""
        app = Celery('doctor', broker=server.url('qos'), set_as_current=False)
        celery_qos.setup(app, QoS(lease_seconds=1))
        store.lease('celery', 'dead', 1, 60)
        for number in range(2):
            store.enqueue('celery', 'a', 0, {'number': str(number)})
        store.take(['celery'], 'dead', 1)
        store.enqueue('celery', 'b', 0, {'number': '2'}, task_id='t', due_ms=2 ** 42)
        store.client.zadd(keys.delayed(NS), {store.client.zrange(keys.delayed(NS), 0, 0)[0]: 1000})
        store.client.zadd(keys.leases(NS), {'dead': 1000})
        store.client.hset(keys.slots(NS), 'ghost', 2)
        rows = found(app)
        assert bad(rows) >= {'leases', 'overdue', 'totals'} and 'the consumers have 3' in rows['totals'][0].sentence
        rows = found(app, fix=True)
        assert mended(rows) >= {'leases', 'totals'} and not bad(rows)
        assert store.client.zrange(keys.leases(NS), 0, -1) == [b'ghost']
        store.client.zadd(keys.leases(NS), {'ghost': 1000})
        assert mended(found(app, fix=True)) == {'leases'} and not bad(found(app))
        assert store.size('celery') == 3 and not store.client.exists(keys.slots(NS), keys.delayed(NS))

    def test_whoever_is_given_a_lease_has_the_time_to_renew_it(self, app, store):
        for name in 'slots', 'task':
            store.lease('celery', name, 1, 60)
            store.enqueue('celery', 'a', 0, {'number': name})
            assert store.take(['celery'], name, 1)
        store.client.hdel(keys.slots(NS), 'task')
        store.client.delete(keys.leases(NS))
        store.enqueue('celery', 'b', 0, {'number': '2'}, task_id='t', due_ms=2 ** 42)
        store.client.zadd(keys.delayed(NS), {store.client.zrange(keys.delayed(NS), 0, 0)[0]: 1000})
        until(lambda: store.client.info()['uptime_in_seconds'] >= 2)
        celery_qos.setup(app, QoS(lease_seconds=2))
        began = reads.now(store) * 1000
        assert mended(found(app, fix=True)) >= {'leases', 'overdue'}
        leases = dict(store.client.zrange(keys.leases(NS), 0, -1, withscores=True))
        assert leases.keys() == {b'slots', b'task'} and min(leases.values()) >= began + 1999

    def test_keys_of_another_type_and_of_another_program(self, app, redis):
        app.send_task('job')
        redis.set(f'{NS}:waiting:mine', 'x')
        redis.set(f'{NS}:mine', 'x')
        redis.delete(keys.state(NS))
        redis.set(keys.state(NS), 'x')
        rows = found(app)
        assert 'keys_of_other_types' in bad(rows) and 'mine' in rows['orphans'][0].sentence

    def test_many_dead_letters(self, app, store):
        celery_qos.control(app).set_queue(max_dead_letters=10)
        store.lease('celery', 'w', 10, 60)
        for number in range(1, 11):
            store.enqueue('celery', 'a', 0, {'number': str(number)})
            store.bury('celery', [each.entry_id for each in store.take(['celery'], 'w', 1)], 'rejected')
            levels = [each.level for each in found(app).get('dead_letters', [])]
            assert levels == ([] if number < 8 else ['warn'] if number < 10 else ['bad'])

    def test_prefetched_tasks_that_wait_in_their_worker(self, app, store):
        store.lease('celery', 'w', 4, 60)
        for number in range(4):
            store.enqueue('celery', 'a', 0, {'number': str(number)})
        ids = [each.entry_id for each in store.take(['celery'], 'w', 4)]
        assert 'prefetch' not in found(app)
        store.client.xclaim(keys.egress(NS), keys.GROUP, 'w', 0, ids, idle=60_000)
        assert 'for more than 60 s' in found(app)['prefetch'][0].sentence

    def test_more_tenants_than_are_added_up_at_one_time(self, app, store, monkeypatch):
        monkeypatch.setattr(accounts, 'MOST_SUMMED', 10)
        for number in range(30):
            store.enqueue('celery', f't{number}', 0, {'number': str(number)})
        assert 'totals' not in found(app)
        store.client.hincrby(keys.state(NS), 'waiting', 5)
        assert '35 waiting tasks are noted in all, there are 30' in found(app)['totals'][0].sentence


@pytest.fixture
def pair(server):
    """A server and its replica."""
    port = free_port()
    with EmbeddedRedis(server.binary, '--port', str(port), '--bind', '127.0.0.1', '--repl-diskless-sync-delay',
                       '0') as master, EmbeddedRedis(server.binary, '--replicaof', '127.0.0.1', str(port)) as replica:
        until(lambda: replica.client().info()['master_link_status'] == 'up')
        until(lambda: master.client().info()['slave0']['state'] == 'online')
        yield master, replica, port


class TestReplicas:
    """Damage that nobody can mend: it is all told, and what is told to do can be done."""

    @pytest.fixture
    def damaged(self, pair):
        master, replica, _ = pair
        with Celery('doctor', broker=master.url('qos'), set_as_current=False) as app:
            app.send_task('job', tenant='a', countdown=60)
            app.send_task('job', tenant='a')
        redis = master.client()
        redis.hset(keys.state(NS), 'waiting', 7)
        redis.delete(keys.delayed(NS))
        assert redis.wait(1, 5000) == 1
        return pair

    def test_at_the_replica(self, damaged):
        master, replica, port = damaged
        for options in (), ('--fix',):
            code, said = doctor(replica, *options)
            told = {each['check']: each for each in said['findings'] if each['level'] == 'bad'}
            assert code == 1 and told.keys() == {'replication', 'totals', 'delayed'}
            assert f'a replica of 127.0.0.1:{port} and takes no writes' in told['replication']['sentence']
            assert told['totals']['remedy'] == 'celery qos doctor --fix, where the server takes writes'
        run = subprocess.run(
            [sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.basic', 'qos', 'pause', 'a'],
            env=environment(replica.url('qos')), cwd=ROOT, text=True, capture_output=True, timeout=60)
        assert run.returncode == 3 and 'is a replica, and takes no writes; name its master' in run.stderr
        replica.client().config_set('replica-read-only', 'no')
        with Celery('doctor', broker=replica.url('qos'), set_as_current=False) as app:
            assert 'loses what is written here' in found(app)['replication'][0].sentence
        master.stop()
        until(lambda: replica.client().info()['master_link_status'] == 'down')
        with Celery('doctor', broker=replica.url('qos'), set_as_current=False) as app:
            assert 'which it does not reach' in found(app)['replication'][0].sentence

    def test_at_a_server_that_wants_more_replicas_than_follow(self, damaged):
        master, _, _ = damaged
        code, said = doctor(master)
        finding, = [each for each in said['findings'] if each['check'] == 'replication']
        assert finding['level'] == 'warn' and '1 replica follows' in finding['sentence']
        master.client().config_set('min-replicas-to-write', 2)
        code, said = doctor(master, '--fix')
        told = {each['check']: each for each in said['findings'] if each['level'] == 'bad'}
        assert code == 1 and told.keys() == {'replication', 'totals', 'delayed'}
        assert '1 of 1 replica is in time, and min-replicas-to-write is 2' in told['replication']['sentence']
        assert 'CONFIG SET min-replicas-to-write 0' in told['replication']['remedy']
        master.client().config_set('min-replicas-to-write', 1)
        code, said = doctor(master, '--fix')
        assert code == 0 and {each['check'] for each in said['findings'] if each['level'] == 'mended'} == {
            'totals', 'delayed'}


QOS = QoS(queues=[SubQueue('high', 1000, 3), SubQueue('low', 1000, 1)], default_tenant=Tenant(max_in_flight=3))


def damage(redis, store) -> None:
    """What a program, or a person, with too many rights may do to a queue with tasks of `lost`, `torn` and others."""
    redis.hdel(keys.waiting(NS), 'low:lost', 'low')
    redis.zrem(keys.ready(NS, 'low'), 'low:torn', 'low:lost')
    redis.hset(keys.waiting(NS), mapping={'low:phantom': 7, 'high': 99})
    redis.hset(keys.state(NS), 'waiting', 4)
    redis.hset(keys.in_flight(NS), 'tenant:torn', 3)
    redis.delete(keys.delayed(NS))
    redis.zadd(keys.finish(NS, 'gone'), {'gone:x': 5})
    redis.hset(keys.running(NS, 'dead'), '1-1', 'low:torn')


@pytest.mark.once
def test_what_was_damaged_is_mended_while_workers_run_and_a_healthy_queue_is_no_false_alarm(server):
    ledger = Ledger(server, {'broker_transport_options': {'qos': QOS.as_data()}, 'worker_prefetch_multiplier': 2})
    redis, marks = server.client(), []

    def send(tenant: str, count: int, **options) -> None:
        for _ in range(count):
            marks.append(str(len(marks)))
            ledger.send(tenant, marks[-1], **{'sub_queue': 'low', **options})

    for tenant in 'lost', 'torn', 'fine', ('a', 'b'):
        send(tenant, 5)
    send('fine', 3, sub_queue='high', countdown=1)
    store = ledger.app.pool.acquire(block=True).default_channel.store
    assert not found(ledger.app).keys() - EXPECTED
    damage(redis, store)
    code, said = doctor(server)
    assert code == 1
    assert {each['check'] for each in said['findings'] if each['level'] == 'bad'} == {
        'orphans', 'tenants', 'totals', 'in_flight', 'delayed'}
    assert not redis.exists(keys.delayed(NS)), 'nothing is mended without --fix'

    code, said = doctor(server, '--fix')
    assert code == 0 and said['counts']['mended'] >= 5 and 'bad' not in said['counts'], said
    assert doctor(server)[0] == 0

    # What is published meanwhile, and damaged, is served too.
    stop, alarms = Event(), []
    with ledger.worker('threads', 2), ledger.worker('threads', 2):
        def look() -> None:
            while not stop.is_set():
                alarms.extend(each for rows in found(ledger.app).values() for each in rows
                              if each.check not in EXPECTED)

        looking = Thread(target=look)
        looking.start()
        for number in range(40):
            send(f't{number % 7}', 3, task='late' if number % 2 else 'early')
        ledger.until('end', len(marks) - 20)
        stop.set()
        looking.join()
        assert alarms == []
        redis.hset(keys.in_flight(NS), 'tenant:torn', 3)
        send('torn', 5)
        redis.hdel(keys.waiting(NS), 'low:torn')
        until(lambda: not bad(found(ledger.app, fix=True)) and not mended(found(ledger.app, fix=True)))
        assert sorted(ledger.until('end', len(marks))) == sorted(marks)
        ledger.until_idle()
