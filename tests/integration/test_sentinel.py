"""A Redis that Sentinel watches over: whoever is master is found, and followed."""
from __future__ import annotations

import subprocess
from collections import Counter

import pytest
from celery import Celery
from kombu import Connection, pools
from kombu.exceptions import OperationalError
from redis import Redis

from celery_qos import ConfigError

from ..until import until
from .ledger import Ledger
from .logs import ours
from .ports import free_port
from .sentinels import NAME, PASSWORD, Deployment
from .test_tls import Certificates, start

TRANSPORT = 'celery_qos.sentinel:SentinelTransport'


@pytest.fixture
def deployment(server, tmp_path):
    with Deployment(server.binary, tmp_path) as found:
        yield found


@pytest.mark.once
def test_a_failover(server, deployment):
    ledger = Ledger(deployment, deployment.conf(qos={'lease_seconds': 4}), book=server)
    first = deployment.master
    with ledger.worker('prefork', 2) as worker, ledger.worker('threads', 2) as other:
        for number in range(8):
            ledger.send('t', f'{number}', seconds=2.0, task='late')
        ledger.until('start', 4)
        deployment.server(first).wait(1, 5000)
        deployment.servers[first].kill()
        ledger.send('t', 'meanwhile', retry_policy={'max_retries': 60, 'interval_start': 0.2, 'interval_max': 0.2})
        assert deployment.master != first
        until(lambda: set(ledger.marks('end')) >= {*map(str, range(8)), 'meanwhile'})
        ledger.until_idle()
        for each in worker, other:
            lines = ours(each.log())
            assert not [line for line, count in Counter(lines).items() if count > 1], lines
            assert len(lines) <= 6, lines
            assert PASSWORD not in each.log()
            assert 'Traceback' not in each.log()
        worker.terminate()
        assert worker.wait() == 0


def connect(url, **options):
    with Connection(url, transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        return connection, connection.default_channel.store


def test_who_is_asked_and_who_is_master(deployment):
    """Any Sentinel will do, by whichever scheme; what tells the process's databases apart names all of them."""
    dead = f'qos-sentinel://127.0.0.1:{free_port()}'
    url = f'{dead};{deployment.url("qos", 3)}'
    connection, store = connect(url, master_name=NAME)
    assert store.client.get_connection_kwargs()['db'] == 3
    assert connection.as_uri().startswith('qos-sentinel://') and PASSWORD not in connection.as_uri()

    app = Celery('sentinel', broker=deployment.url('stock').replace('stock-', ''), broker_transport=TRANSPORT)
    app.conf.broker_transport_options = {'master_name': NAME}
    app.send_task('job', tenant='acme')
    identities = set()
    for _ in range(3):
        with app.connection_for_write() as connection:
            assert connection.SimpleQueue('celery').qsize() == 1
            identities.add(connection.default_channel.store.identity)
            connection.maybe_switch_next()
            assert connection.SimpleQueue('celery').qsize() == 1
            identities.add(connection.default_channel.store.identity)
    assert len(identities) == 1
    assert str(deployment.master) not in str(identities) and PASSWORD not in str(identities)
    assert deployment.server(deployment.master).xlen('{qos:celery:0}:tenant:0::acme') == 1
    app.close()
    pools.reset()
    for port in deployment.ports:
        clients = [each for each in Redis('127.0.0.1', port).client_list() if not each['name'].startswith('sentinel')]
        assert len(clients) == 1, clients


@pytest.mark.parametrize('url, options, complaint', [
    ('qos-sentinel://h:1', {}, r'master_name: None is not the name'),
    ('qos-sentinel://h:1', {'master_name': ''}, r"master_name: '' is not the name"),
    ('qos-sentinel://h:1/0;qos-sentinel://h:2/1', {'master_name': 'm'}, 'contradict each other: virtual_host'),
    ('qos-sentinel://:s3cret@h:1;qos-sentinel://:s3cre7@h:2', {'master_name': 'm'}, 'contradict each other: password$'),
    ('qos-sentinel://h:1;qoss-sentinel://h:2', {'master_name': 'm'}, 'the same scheme'),
    ('qos-sentinel://h:1;qos://h:2', {'master_name': 'm'}, "scheme 'qos' is not one of qos-sentinel"),
    ('qos-sentinel://h:1;h:2', {'master_name': 'm'}, 'needs a URL of its own'),
    ('qos-sentinel://h:1?master_name=m', {}, "'master_name' is unknown"),
])
def test_one_clear_error(url, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        connect(url, **options)


QUICK = {'socket_timeout': 0.2}


def test_tls_is_never_plaintext(deployment, tmp_path):
    """Neither on the way to the master nor on that to the Sentinels, unless somebody says so of these."""
    port = deployment.ports[0]
    for scheme, use_ssl in ('qoss', None), ('qos', True), ('qos', {'ssl_cert_reqs': 'none'}):
        url = f'{scheme}-sentinel://:{PASSWORD}@127.0.0.1:{port}'
        for kwargs in QUICK, {**QUICK, 'ssl': False}:
            options = {'master_name': NAME, 'sentinel_kwargs': kwargs, 'socket_timeout': 0.2}
            with Connection(url, ssl=use_ssl, transport_options=options) as connection:
                assert connection.as_uri().startswith('qoss-sentinel://')
                with pytest.raises(OperationalError) as caught:
                    connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                assert ('no Sentinel has a master' in str(caught.value)) == ('ssl' not in kwargs), caught.value
                assert PASSWORD not in str(caught.value)


def test_tls(tmp_path):
    certificates = Certificates(tmp_path)
    server = start(certificates, 'localhost', '--tls-auth-clients', 'no')
    port = free_port()
    certificate, key = certificates.issue('sentinel')
    conf = tmp_path / 'sentinel.conf'
    conf.write_text(f'port 0\ntls-port {port}\nbind 127.0.0.1\ntls-cert-file {certificate}\ntls-key-file {key}\n'
                    f'tls-ca-cert-file {certificates.ca}\ntls-auth-clients no\ntls-replication yes\ndir {tmp_path}\n'
                    f'sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n'
                    f'sentinel monitor {NAME} localhost {server.tls} 1\n')
    sentinel = subprocess.Popen([str(server.redis.binary), str(conf), '--sentinel'], stdout=subprocess.DEVNULL)
    try:
        options = f'ssl_ca_certs={certificates.ca}&ssl_check_hostname=false'
        url = f'qoss-sentinel://localhost:{port}/0?{options}'
        connection, store = until(lambda: attempt(lambda: connect(url, master_name=NAME)))
        assert store.client.ping()
        clients = server.redis.client().client_list()
        assert not [client for client in clients if client['laddr'].endswith(f':{server.plain}')]
        with pytest.raises(OperationalError, match='CERTIFICATE_VERIFY_FAILED|certificate verify failed'):
            connect(f'qoss-sentinel://localhost:{port}/0', master_name=NAME)
    finally:
        sentinel.kill()
        sentinel.wait()
        server.redis.stop()


def attempt(act):
    try:
        return act()
    except OperationalError:
        return None
