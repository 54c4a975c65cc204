"""``celery qos migrate`` with real workers of both transports, and killed at any moment."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.pidbox import Mailbox
from kombu.utils.uuid import uuid

import celery_qos
from celery_qos import QoS, keys
from celery_qos.migrate import Back, Moved, Stock
from celery_qos.store import Store

from ..until import until
from .ledger import Ledger
from .sentinels import Deployment
from .test_tls import Certificates, start
from .workers import ROOT, environment

pytestmark = pytest.mark.once

APP = 'tests.integration.apps.ledger'
SHORT_LEASE = {'broker_transport_options': {'qos': {'lease_seconds': 1}}}
PRIORITIES = 0, 3, 9
#: Options of a worker that does not look for others when it starts.
ALONE = '--without-mingle', '--without-gossip'


class Migration:
    """Arguments: the server, the settings of the app, and the URL of its broker where that is not the server's."""

    def __init__(self, server, conf=None, url=''):
        self._env = environment(url or server.url('qos'), '', {
            'QOS_TEST_LEDGER': server.socket, 'QOS_TEST_CONF': json.dumps(conf or {})})

    @contextmanager
    def started(self, *options):
        command = [sys.executable, '-m', 'celery', '-A', APP, 'qos', 'migrate', '--json', *options]
        process = subprocess.Popen(command, env=self._env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def run(self, *options, code=0):
        """The report of the first queue; the error where `code` is more than 1."""
        with self.started(*options) as process:
            out, err = process.communicate(timeout=60)
            assert process.returncode == code, out + err
            return err if code > 1 else json.loads(out)[0]


def send_some(ledger, count, prefix):
    """Over tenants and priorities, some to run later; returns their marks."""
    with ledger.publishing() as send:
        for number in range(count):
            delay = {'countdown': 3} if number % 10 == 0 else {}
            send(f't{number % 7}', f'{prefix}{number}', priority=PRIORITIES[number % 3], **delay)
    return [f'{prefix}{number}' for number in range(count)]


@pytest.mark.once
def test_a_backlog_goes_to_the_new_workers_and_back_and_every_task_runs_once(server, redis):
    stock, qos = Ledger(server, SHORT_LEASE, scheme='redis'), Ledger(server, SHORT_LEASE)
    migration = Migration(server, SHORT_LEASE)
    held = [f'h{number}' for number in range(4)]
    with stock.worker(options=(*ALONE, '--prefetch-multiplier', '2')) as worker:
        for mark in held:
            stock.send('held', mark, task='held_late')
        stock.until('start', 2)
        until(lambda: redis.hlen('unacked') == 4)
        marks = send_some(stock, 300, 'a')
        until(lambda: redis.hlen('unacked') >= 4)
        assert 'stock workers are alive: w' in migration.run('--unacked', code=2)
        worker.kill()

    found = migration.run('--dry-run')
    assert sum(found['found'].values()) + found['held'] == 304
    assert sum(found['tenants'].values()) == sum(found['found'].values())
    first = migration.run()
    assert first['moved'] + first['held'] == 304 and first['without_tenant'] == first['left'] == 0
    second = migration.run('--unacked')
    assert (second['unacked'], second['moved'], second['held']) == (first['held'], first['held'], 0)
    assert redis.exists('celery', 'unacked', 'unacked_index') == 0

    qos.let_end(*held)
    with qos.worker(options=(*ALONE, '--prefetch-multiplier', '4')) as worker:
        qos.until('end', 304)
        qos.until_idle()
        assert Counter(qos.marks('end')) == Counter(marks + held)
        # Two ran when the old worker was killed.
        assert sum(each['redelivered'] for each in qos.events if each['event'] == 'end') == first['held']

        for mark in 'k0', 'k1':
            qos.send('held', mark, task='held_late')
        until(lambda: {'k0', 'k1'} <= set(qos.marks('start')))
        worker.kill()
    marks += send_some(qos, 100, 'b')
    qos.send('held', 'delayed', countdown=3600)
    report = migration.run('--back')
    assert report['moved'] + report['held'] == 103 and report['left'] == 0
    # The lease of the worker that was killed ends.
    until(lambda: report['moved'] + migration.run('--back')['moved'] == 103 or report['moved'] == 103)
    assert qos.stray_keys() == []
    assert migration.run('--dry-run')['found'].keys() == {'priority 0', 'priority 3', 'priority 9'}

    stock.let_end('k0', 'k1')
    with stock.worker(options=(*ALONE, '--prefetch-multiplier', '4')) as worker:
        stock.until('end', 406)
        # The one that is due in an hour is in the worker's memory, the stock way, until that stops.
        until(lambda: redis.hlen('unacked') == 1)
        worker.terminate()
        worker.wait()
    assert (redis.hlen('unacked'), redis.llen('celery')) == (0, 1)
    assert Counter(stock.marks('end')) == Counter([*marks, *held, 'k0', 'k1'])


@pytest.fixture
def entries(server):
    """Fill a stock list of `client` with so many tasks; returns their ids."""
    def fill(client, count):
        stock = Ledger(server, scheme='redis', url=server.url('redis', 5))
        stock.send('TENANT', 'mark', task='nothing')
        template = server.client(db=5).rpop('celery').decode()
        task_id = json.loads(template)['headers']['id']
        ids = [str(uuid4()) for _ in range(count)]
        with client.pipeline(transaction=False) as pipe:
            for number, new in enumerate(ids):
                message = json.loads(template.replace(task_id, new))
                message['headers']['tenant'] = f't{number % 50}'
                pipe.lpush('celery', json.dumps(message))
            pipe.execute()
        return ids
    return fill


def in_streams(redis):
    """Ids of the tasks in tenants' streams."""
    return [json.loads(fields[b'headers'])['id'] for key in redis.scan_iter(f'{keys.namespace("celery")}:tenant:*')
            for _, fields in redis.xrange(key)]


def id_of(entry):
    return json.loads(entry)['headers']['id']


def run_killed(migration, moved, parts, *options):
    """Kill it when so many have moved; each goes on where the one before was."""
    for part in parts:
        with migration.started(*options) as process:
            until(lambda part=part: moved() >= part or process.poll() is not None)
            os.killpg(process.pid, signal.SIGKILL)
    return migration.run(*options)


@pytest.mark.once
@pytest.mark.parametrize('elsewhere', [False, True], ids=['in one database', 'to another database'])
def test_killed_there_and_back_it_loses_and_doubles_nothing(server, redis, entries, elsewhere):
    old = server.client(db=3) if elsewhere else redis
    url = server.url('redis', 3)
    ids = entries(old, 2000)
    migration, taken, stop = Migration(server, SHORT_LEASE), [], threading.Event()

    def take():
        # As a stock worker does.
        while not stop.is_set():
            if found := old.brpop('celery', 1):
                taken.append(id_of(found[1]))
                stop.wait(0.02)

    taker = threading.Thread(target=take)
    taker.start()
    state = keys.state(keys.namespace('celery'))
    try:
        run_killed(migration, lambda: int(redis.hget(state, 'waiting') or 0), [300, 600],
                   *(['--from', url] if elsewhere else []))
    finally:
        stop.set()
        taker.join()
    waiting = in_streams(redis)
    assert len(taken) > 5
    assert Counter(waiting + taken) == Counter(ids)

    report = run_killed(migration, lambda: len(waiting) - int(redis.hget(state, 'waiting') or 0), [300], '--back',
                        *(['--to', url] if elsewhere else []))
    until(lambda: not report['held'] or not migration.run('--back', *(['--to', url] if elsewhere else []))['held'])
    assert Counter(id_of(entry) for entry in old.lrange('celery', 0, -1)) == Counter(waiting)
    left = {key.decode() for client in (redis, old) for key in client.scan_iter('*qos-migrate:*')}
    assert {key for key in left if ':came:' not in key} == set()
    assert all(client.ttl(key) > 0 for client in (redis, old) for key in client.scan_iter('*:came:*'))


def in_lists(client):
    """Ids of the tasks in the stock lists."""
    return [id_of(entry) for key in ('celery', *(f'celery\x06\x16{step}' for step in (3, 6, 9)))
            for entry in client.lrange(key, 0, -1)]


def moved_there(migration, stock, old, new, count, *options):
    """Publish so many tasks and move them; checks that all are there once, and returns their ids.

    Arguments:
        stock: the ledger that publishes.
        old: client of the stock database.
        new: the same of the other.
    """
    send_some(stock, count, 'm')
    before = in_lists(old)
    assert len(before) == len(set(before)) == count
    assert sum(migration.run('--dry-run', *options)['found'].values()) == count
    report = migration.run(*options)
    assert (report['moved'], report['left']) == (count, 0)
    later = [json.loads(each.fields[b'headers'])['id'] for each in Store(new).delayed('celery', ('', ''), count)]
    assert Counter(in_streams(new) + later) == Counter(before) and in_lists(old) == []
    return before


@pytest.mark.parametrize('elsewhere', [False, True], ids=['in one database', 'to another database'])
def test_over_tls_nothing_is_lost_and_nothing_doubled(tmp_path, elsewhere):
    tls = start(Certificates(tmp_path), 'localhost', '--tls-auth-clients', 'no')
    try:
        redis = tls.redis.client()
        url = tls.url('rediss')
        if elsewhere:
            url = url.replace('/0?', '/3?')
        migration = Migration(tls.redis, SHORT_LEASE, tls.url())
        other = (['--from', url], ['--to', url]) if elsewhere else ([], [])
        old = tls.redis.client(db=3) if elsewhere else redis
        before = moved_there(migration, Ledger(tls.redis, url=url), old, redis, 200, *other[0])
        report = migration.run('--back', *other[1])
        assert (report['moved'], report['left']) == (200, 0)
        assert Counter(in_lists(old)) == Counter(before) and not in_streams(redis)

        if elsewhere:
            # The server has no passwords; redis-py tries for some seconds.
            error = migration.run('--from', url.replace('://', '://:s3cret@'), code=3)
            assert error.startswith('Error: Redis at rediss://:**@localhost') and 'the URL of --from' in error
            assert 's3cret' not in error and error.count('\n') == 1
        error = migration.run('--from', f'{url}&ssl_ca_cert=x', code=2)
        assert "did you mean 'ssl_ca_certs'" in error and error.startswith('Error: --from: ')
    finally:
        tls.redis.stop()


def test_behind_sentinel_over_a_failover_nothing_is_lost_and_nothing_doubled(server, tmp_path):
    with Deployment(server.binary, tmp_path) as deployment:
        # The password is said with one Sentinel, the database with another: both are the server's.
        url = deployment.url('qos').replace('/0;', ';') + '/3'
        migration = Migration(server, deployment.conf(qos={'lease_seconds': 1}), url)
        stock = Ledger(deployment, deployment.conf(), book=server,
                       url=deployment.url('stock', 3).replace('stock-sentinel', 'sentinel'))
        before = moved_there(migration, stock, deployment.client(3), deployment.client(3), 100)
        first = deployment.master
        assert deployment.server(first).wait(1, 5000) == 1
        deployment.servers[first].kill()
        until(lambda: deployment.has_other_master(first))
        report = migration.run('--back')
        assert (report['moved'], report['left']) == (100, 0)
        assert Counter(in_lists(deployment.client(3))) == Counter(before)
        assert not in_streams(deployment.client(3))


def moved_back(server, lease_seconds, progress=lambda: None, to=None):
    with Celery('back', broker=server.url('qos'), set_as_current=False) as app:
        celery_qos.setup(app, QoS(lease_seconds=lease_seconds))
        with Stock(app, to) as stock, app.pool.acquire(block=True) as connection:
            back, report = Back(stock, connection.default_channel), Moved('celery', 'celery')
            back.progress = progress
            back.move(report)
            return report


def test_who_lives_keeps_its_tasks_though_redis_was_away_for_longer_than_its_lease(server, store):
    for mark in 'one', 'two':
        store.lease('celery', 'w', 2, 60)
        fields = {'number': '1', 'tenant': 'a', 'body': '', 'headers': '{}', 'properties': '{}'}
        store.enqueue('celery', 'a', 0, {**fields, 'mark': mark})
    assert len(store.take(['celery'], 'w', 2)) == 2
    leases = keys.leases(store.namespace('celery'))
    store.client.zadd(leases, {'w': 1000})
    report = moved_back(server, 24 * 3600)      # the server has just begun
    assert (report.held, report.holders, report.moved) == (2, {'w': 0.0}, 0)
    until(lambda: store.client.info()['uptime_in_seconds'] >= 1)
    report = moved_back(server, 1, lambda: store.lease('celery', 'w', 2, 60))
    assert (report.held, report.moved) == (2, 0)
    store.client.zadd(leases, {'w': 1000})
    report = moved_back(server, 1)
    assert (report.held, report.moved, store.client.llen('celery')) == (0, 2, 2)


def test_what_is_on_its_way_between_two_servers_is_counted(server, redis, entries):
    old, url = server.client(db=3), server.url('redis', 3)
    entries(old, 5)
    for _ in range(3):
        redis.lpush('qos-migrate:celery', old.rpop('celery'))
    found = Migration(server).run('--dry-run', '--from', url)
    assert (found['found'], sum(found['tenants'].values())) == ({'priority 0': 2, 'under way': 3}, 5)
    report = moved_back(server, 60, to=url)
    assert (report.found, report.moved, report.left, old.llen('celery')) == ({'under way': 3}, 3, 0, 5)


def test_what_is_no_task_stays_and_is_told(server, redis):
    stock = Ledger(server, scheme='redis')
    stock.send('a', 'one', task='nothing')
    redis.rpush('celery', 'garbage')
    redis.lpush('celery', '{"body": 1}')
    migration = Migration(server)

    report = migration.run('--to-queue', 'other', '-Q', 'celery', '--one-tenant', 'backlog', code=1)

    assert (report['moved'], report['malformed'], report['left']) == (1, 2, 0)
    assert "'celery': an entry is no task" in report['notes'][0]
    assert redis.lrange('celery', 0, -1) == [b'{"body": 1}', b'garbage']
    (entry,) = redis.xrange(keys.tenant_stream(keys.namespace('other'), 'backlog'))
    assert json.loads(entry[1][b'properties'])['delivery_info'] == {'exchange': '', 'routing_key': 'other'}


def test_workers_of_another_database_are_found_alive(server):
    old, url = server.client(db=3), server.url('redis', 3)
    with Ledger(server, url=url).worker('solo', 1, ALONE):
        assert 'stock workers are alive: w' in Migration(server).run('--unacked', '--from', url, code=2)
    assert not [key for key in old.scan_iter('*') if b'kombu' not in key]


def test_what_is_not_acknowledged_of_other_queues_is_told(server, redis):
    with Celery('stock', broker=server.url('redis'), set_as_current=False) as stock:
        stock.conf.task_queues = [Queue('emails', Exchange('mails', type='topic'), routing_key='mail.#')]
        stock.send_task('job', exchange='mails', routing_key='mail.urgent', queue='emails')
    message = json.loads(redis.rpop('emails'))
    for tag, entry in ('t', json.dumps([message, 'mails', 'mail.urgent'])), ('x', 'garbage'):
        redis.hset('unacked', tag, entry)
        redis.zadd('unacked_index', {tag: 1})
    migration = Migration(server)

    report = migration.run('--unacked', code=1)
    assert (report['of_others'], report['malformed'], report['moved']) == (1, 1, 0)
    # The app does not know the exchange.
    report = migration.run('--unacked', '--queue', 'emails', code=1)
    assert (report['of_others'], report['malformed'], report['moved']) == (0, 1, 1)
    assert redis.hkeys('unacked') == [b'x']


def test_a_stock_client_gets_the_answers_of_our_workers_and_ours_those_of_stock_ones(server, redis):
    urls = server.url('redis'), server.url('qos')
    for asks, answers in urls, urls[::-1]:
        with Connection(asks) as client, Connection(answers) as worker:
            mailbox, ticket = Mailbox('celery')(client), uuid()
            mailbox.reply_queue(client.default_channel).declare()
            Mailbox('celery')(worker)._publish_reply(
                {'ok': 'pong'}, mailbox.reply_exchange.name, mailbox.oid, ticket, channel=worker.default_channel)
            assert mailbox._collect(ticket, limit=1, timeout=5, channel=client.default_channel) == [{'ok': 'pong'}]
    assert [key for key in redis.keys() if b':tenant:' in key] == []


def test_it_follows_what_old_producers_publish(server, redis):
    stock = Ledger(server, scheme='redis')
    # Whose request this process serves is not whose their tasks are.
    conf = {'broker_transport_options': {'qos': {'current_tenant': 'os:getcwd'}}}
    with Migration(server, conf).started('--follow') as process:
        for mark in 'one', '':
            stock.send(mark, 'mark', task='nothing')
            until(lambda mark=mark: redis.exists(keys.tenant_stream(keys.namespace('celery'), mark)))
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert (process.returncode, json.loads(out)[0]['moved']) == (0, 2)
