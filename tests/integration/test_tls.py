"""TLS on a real server: verified unless told otherwise, and never plaintext where TLS was asked for."""
from __future__ import annotations

import os
import ssl
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from celery import Celery
from kombu import Connection, pools
from kombu.exceptions import OperationalError

from celery_qos import ConfigError, address
from celery_qos.embedded import EmbeddedRedis, NoServer, find_binaries
from tests.integration.ports import free_port
from tests.integration.workers import Worker

x509 = pytest.importorskip('cryptography.x509')
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

TRANSPORT = 'celery_qos.transport:Transport'


class Certificates:
    """An authority, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name('test authority')
        self.ca = self._write('ca', self._key, self._sign(self._name, self._key.public_key(), ca=True))[0]

    def issue(self, host: str) -> tuple[Path, Path]:
        """Files of a certificate for `host` and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._write(host, key, self._sign(_name(host), key.public_key(), host=host))

    def _sign(self, subject, public_key, host=None, ca=False):
        now = datetime(2020, 1, 1)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now).not_valid_after(now + timedelta(days=36500))
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                   # Python 3.13 verifies strictly, as RFC 5280 has it.
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                                  critical=False)
                   .add_extension(x509.KeyUsage(
                       digital_signature=True, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
                       key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                       decipher_only=False), critical=True))
        if host:
            name = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name, key, certificate):
        pair = self.folder / f'{name}.pem', self.folder / f'{name}.key'
        pair[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
        return pair


def _name(common):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


class Server:
    """One server with a TLS and a plaintext port."""

    def __init__(self, redis: EmbeddedRedis, tls: int, plain: int, ca: Path, client: tuple[Path, Path]) -> None:
        self.redis, self.tls, self.plain, self.ca, self.client = redis, tls, plain, ca, client

    def url(self, scheme='qoss', host='localhost', ca=True, **options):
        if ca:
            options['ssl_ca_certs'] = self.ca
        query = '&'.join(f'{name}={value}' for name, value in options.items())
        return f'{scheme}://{host}:{self.tls}/0' + (f'?{query}' if query else '')


def start(certificates: Certificates, host: str, *more: str) -> Server:
    certificate, key = certificates.issue(host)
    # Another process may take a port between its choice and the start: then again.
    for binary in [*find_binaries()] * 3:
        tls, plain = free_port(), free_port()
        arguments = ('--tls-port', str(tls), '--port', str(plain), '--bind', '127.0.0.1', '--tls-cert-file',
                     str(certificate), '--tls-key-file', str(key), '--tls-ca-cert-file', str(certificates.ca), *more)
        try:
            redis = EmbeddedRedis(binary, *arguments).start()
        except NoServer:
            continue
        return Server(redis, tls, plain, certificates.ca, certificates.issue('client'))
    assert 'CI' not in os.environ, 'no redis-server with TLS'
    pytest.skip('no redis-server with TLS')


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp('certificates'))


@pytest.fixture(scope='module')
def server_(certificates):
    server = start(certificates, 'localhost', '--tls-auth-clients', 'no')
    yield server
    server.redis.stop()


@pytest.fixture
def tls(server_, monkeypatch):
    # A server that expects plaintext keeps silent, so the handshake must end by itself.
    monkeypatch.setattr(address, 'HANDSHAKE_TIMEOUT', 0.3)
    server_.redis.client().flushall()
    return server_


def publish(url, **conf):
    app = Celery('tls', broker=url)
    app.conf.update(conf, broker_transport_options={'max_retries': 2, 'interval_start': 0, 'interval_step': 0})
    try:
        app.send_task('job', (1,), tenant='acme', retry=False)
        with app.connection_for_read() as connection:
            message = connection.SimpleQueue('celery').get(timeout=5)
            message.ack()
            return message.headers['tenant'], connection
    finally:
        app.close()
        # Kombu's pools of one URL are shared, whatever broker_use_ssl says.
        pools.reset()


def refused(url, **conf):
    with pytest.raises((OperationalError, OSError)) as caught:
        publish(url, **conf)
    return str(caught.value)


def test_qoss_with_the_authority(tls):
    tenant, connection = publish(tls.url())
    assert tenant == 'acme'
    assert connection.as_uri().startswith('qoss://localhost')


def test_a_worker_over_tls(tls):
    with Worker(tls.url(), backend=tls.redis.url('redis', 1), pool='solo') as worker:
        app = Celery('tls', broker=tls.url(), backend=tls.redis.url('redis', 1))
        result = app.send_task('tests.integration.apps.basic.add', (1, 2))
        assert result.get(timeout=20) == 3
        assert app.control.inspect([worker.name], timeout=5, limit=1).ping() == {worker.name: {'ok': 'pong'}}
        assert 'qoss://localhost' in worker.log()
        clients = tls.redis.client().client_list()
        assert not [client for client in clients if client.get('laddr', '').endswith(f':{tls.plain}')]
        worker.terminate()
        assert worker.wait() == 0
        app.close()


def test_without_the_authority_the_certificate_is_refused(tls):
    assert 'certificate verify failed' in refused(tls.url(ca=False)).lower()
    assert tls.redis.client().keys() == []


def test_another_authority_is_refused(tls, tmp_path):
    other = Certificates(tmp_path).ca
    assert 'certificate verify failed' in refused(tls.url(ca=False, ssl_ca_certs=other)).lower()
    assert 'certificate verify failed' in refused(
        tls.url('qos', ca=False), broker_use_ssl={'ssl_ca_certs': str(other)}).lower()
    assert tls.redis.client().keys() == []


def test_rediss_with_broker_transport_verifies_too(tls):
    assert publish(tls.url('rediss'), broker_transport=TRANSPORT)[0] == 'acme'
    assert 'certificate verify failed' in refused(tls.url('rediss', ca=False), broker_transport=TRANSPORT).lower()


def test_another_name_in_the_certificate_is_refused(tls):
    assert 'certificate' in refused(tls.url(host='127.0.0.1')).lower()
    assert publish(tls.url(host='127.0.0.1', ssl_check_hostname='false'))[0] == 'acme'


def test_verification_can_be_turned_off_and_only_explicitly(tls):
    assert publish(tls.url(ca=False, ssl_cert_reqs='none'))[0] == 'acme'
    assert publish(tls.url(ca=False), broker_use_ssl={'ssl_cert_reqs': ssl.CERT_NONE})[0] == 'acme'


def test_broker_use_ssl(tls):
    options = {'ssl_ca_certs': str(tls.ca)}
    for scheme in 'qoss', 'qos':
        assert publish(tls.url(scheme, ca=False), broker_use_ssl=options)[0] == 'acme'
    assert publish(tls.url('redis', ca=False), broker_use_ssl=options, broker_transport=TRANSPORT)[0] == 'acme'
    assert 'certificate verify failed' in refused(tls.url('qos', ca=False), broker_use_ssl=True).lower()
    assert 'certificate' in refused(tls.url('qos', host='127.0.0.1', ca=False), broker_use_ssl=options).lower()


def test_broker_use_ssl_true_with_the_systems_authorities(tls, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', str(tls.ca))
    assert publish(tls.url('qos', ca=False), broker_use_ssl=True)[0] == 'acme'
    assert publish(tls.url(ca=False))[0] == 'acme'


@pytest.mark.parametrize('given, complaint', [
    ({'ca_certs': 'x'}, "did you mean 'ssl_ca_certs'"),
    ({'ssl_cacerts': 'x'}, "did you mean 'ssl_ca_certs'"),
    ('yes', "'yes' is neither True nor"),
    (2, '2 is neither True nor'),
])
def test_broker_use_ssl_with_a_mistake(tls, given, complaint):
    with pytest.raises(ConfigError, match=complaint):
        publish(tls.url('qos', ca=False), broker_use_ssl=given)


def test_an_url_with_a_mistake(tls):
    with pytest.raises(ConfigError, match="did you mean 'ssl_ca_certs'"):
        publish(tls.url(ca=False, ssl_ca_cert='x'))
    with pytest.raises(ConfigError, match='unix socket'):
        publish(f'qoss+socket://{tls.redis.socket}')


def test_failover_stays_with_tls(tls):
    dead = f'qoss://localhost:{free_port()}/0'
    assert publish(f'{dead};{tls.url()}')[0] == 'acme'
    refused(f'{dead};{tls.url(ca=False)}')
    lists = f'{dead.replace("qoss", "rediss")};{tls.url("rediss")}'
    assert publish(lists, broker_transport=TRANSPORT)[0] == 'acme'
    refused(lists.partition('?')[0], broker_transport=TRANSPORT)
    refused(f'{dead};qoss://localhost:{tls.plain}/0')
    assert tls.redis.client().xlen('{qos:celery:0}:tenant:0::acme') == 0


@pytest.mark.parametrize('conf', [
    {'broker_url': 'qoss'},
    {'broker_url': 'rediss', 'broker_transport': TRANSPORT},
    {'broker_url': 'qos', 'broker_use_ssl': True},
    {'broker_url': 'qos', 'broker_use_ssl': {'ssl_cert_reqs': ssl.CERT_NONE}},
    {'broker_url': 'redis', 'broker_use_ssl': True, 'broker_transport': TRANSPORT},
], ids=lambda conf: '+'.join(sorted({conf['broker_url'], *conf} - {'broker_url'})))
def test_tls_is_never_plaintext(tls, conf):
    tls.redis.client().config_resetstat()
    url = f'{conf["broker_url"]}://localhost:{tls.plain}/0'
    refused(url, **{**conf, 'broker_url': url})
    assert 'cmdstat_evalsha' not in tls.redis.client().info('commandstats')
    assert tls.redis.client().keys() == []


def test_certificates_of_clients(tls, certificates):
    server = start(certificates, 'localhost', '--tls-auth-clients', 'yes')
    try:
        certificate, key = server.client
        assert publish(server.url(ssl_certfile=certificate, ssl_keyfile=key))[0] == 'acme'
        refused(server.url())
    finally:
        server.redis.stop()


def test_a_connection_of_kombu(tls):
    with Connection(tls.url()) as connection:
        connection.ensure_connection(max_retries=1)
        assert connection.ssl['ssl_cert_reqs'] == ssl.CERT_REQUIRED and connection.ssl['ssl_check_hostname'] is True
        with connection.clone() as clone:
            clone.ensure_connection(max_retries=1)
            assert clone.ssl == connection.ssl
