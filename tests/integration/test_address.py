"""Where the broker is: every way to say it, and what is said about a wrong one."""
from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from socketserver import StreamRequestHandler, ThreadingTCPServer

import celery
import pytest
from celery import Celery
from kombu import Connection, pools
from kombu.exceptions import OperationalError
from redis import Redis

from celery_qos import ConfigError, UnsupportedServer
from celery_qos.embedded import EmbeddedRedis
from celery_qos.transport import Transport
from tests.integration.ports import free_port
from tests.integration.workers import ROOT, Worker, environment
from tests.until import until

TRANSPORT = 'celery_qos.transport:Transport'
#: Kombu's retries, without their pauses.
QUICK = {'max_retries': 3, 'interval_start': 0, 'interval_step': 0}


class TCPServer(EmbeddedRedis):
    """A server with a TCP port besides its unix socket."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        super().__init__(None, '--port', str(self.port), '--bind', '127.0.0.1', *arguments)

    def at(self, db=0, scheme='qos', credentials=''):
        return f'{scheme}://{credentials and credentials + "@"}localhost:{self.port}/{db}'


@pytest.fixture(scope='module')
def shared_tcp():
    with TCPServer() as server:
        yield server


@pytest.fixture
def tcp(shared_tcp):
    shared_tcp.client().flushall()
    return shared_tcp


@pytest.fixture(scope='module')
def protected():
    """A server whose default user has the password 's3cret', and a user 'worker' with 'p@:/?w' and no admin rights."""
    with TCPServer() as server:
        client = server.client()
        client.execute_command('ACL', 'SETUSER', 'worker', 'on', '>p@:/?w', '~*', '&*', '+@all', '-@admin',
                               '-@dangerous', '+info')
        client.execute_command('ACL', 'SETUSER', 'default', 'resetpass', '>s3cret')
        server.admin = Redis(unix_socket_path=server.socket, password='s3cret')
        yield server


def publish(url, **conf):
    app = Celery('address', broker=url)
    app.conf.update({'broker_transport_options': QUICK, **conf})
    try:
        app.send_task('job', (1,), tenant='acme', retry=False)
        with app.connection_for_read() as connection:
            assert isinstance(connection.transport, Transport)
            message = connection.SimpleQueue('celery').get(timeout=5)
            message.ack()
            return message.headers['tenant']
    finally:
        app.close()
        pools.reset()


# -- addresses

def test_host_port_and_database(tcp):
    assert publish(tcp.at(3)) == 'acme'
    assert tcp.client(3).exists('{qos:celery:0}:settings')
    assert tcp.client(0).keys() == []


def test_a_unix_socket(server):
    assert publish(f'qos+socket://{server.socket}?virtual_host=5') == 'acme'
    assert server.client(5).exists('{qos:celery:0}:settings')


def test_passwords(protected):
    assert publish(protected.at(credentials=':s3cret')) == 'acme'
    assert publish(f'qos+socket://:s3cret@{protected.socket}?virtual_host=1') == 'acme'


def test_users_of_an_acl(protected):
    credentials = 'worker:p%40%3A%2F%3Fw'
    assert publish(protected.at(credentials=credentials)) == 'acme'
    with Worker(protected.at(credentials=credentials), pool='solo') as worker:
        app = Celery('address', broker=protected.at(credentials=credentials))
        replies = app.control.inspect([worker.name], timeout=5, limit=1).stats()
        assert replies[worker.name]['broker']['userid'] == 'worker'
        assert '%40' not in repr(replies) and 'p@:/?w' not in repr(replies)
        assert 'p@:/?w' not in worker.log() and '%40' not in worker.log()
        app.close()


@pytest.mark.parametrize('commands', [('+@all', '-info'), (
    '-@all', '+@connection', '+@transaction', '+@scripting', '+@stream', '+@set', '+@list', '+@hash', '+@sortedset',
    '+@string', '+@pubsub', '+@keyspace', '+@read', '+@write', '+time', '-@dangerous')], ids=['no info', 'minimal'])
def test_what_a_user_needs(protected, commands):
    protected.admin.execute_command(
        'ACL', 'SETUSER', 'least', 'reset', 'on', '>pw', '~*', '&*', *commands)
    assert publish(protected.at(2, credentials='least:pw')) == 'acme'


@pytest.mark.parametrize('credentials, complaint', [
    (':wrong', 'invalid username-password pair'), ('', 'Authentication required'),
    ('nobody:x', 'invalid username-password pair')])
def test_a_wrong_password_is_one_clear_error(protected, credentials, complaint):
    with pytest.raises(OperationalError, match=complaint) as caught:
        publish(protected.at(credentials=credentials))
    assert 'wrong' not in str(caught.value)


def test_a_worker_names_a_wrong_password(protected):
    with Worker(protected.at(credentials=':wrong'), pool='solo', ready=False) as worker:
        worker.wait_for(r'Cannot connect to qos://:\*\*@localhost:\d+/0: invalid username-password pair')
        assert 'Traceback' not in worker.log() and 'wrong@' not in worker.log()


def test_broker_transport(tcp):
    assert publish(tcp.at(scheme='redis'), broker_transport=TRANSPORT) == 'acme'
    assert tcp.client().exists('{qos:celery:0}:settings')


def test_a_worker_by_broker_transport(tcp):
    env = {'QOS_TEST_CONF': f'{{"broker_transport": "{TRANSPORT}"}}', 'QOS_TEST_NOTES': tcp.socket}
    with Worker(tcp.at(scheme='redis'), app='tests.integration.apps.tenants', env=env, pool='solo') as worker:
        app = Celery('address', broker=tcp.at(scheme='redis'))
        app.conf.broker_transport = TRANSPORT
        app.send_task('tests.integration.apps.tenants.note', ('x',), tenant='acme')
        until(lambda: tcp.client(2).lrange('notes', 0, -1) == [b'["x", "acme"]'])
        assert 'qos://localhost' in worker.log()
        app.close()


# -- configuration alone

def test_the_scheme_works_without_an_import(tcp):
    code = '''
        import os, sys
        from celery import Celery
        app = Celery('alone')
        app.config_from_object({'broker_url': os.environ['QOS_TEST_BROKER'],
                                'worker_redirect_stdouts': False})

        @app.task(name='job', tenant_key='account')
        def job(account):
            print('ran for', job.request.headers['tenant'], flush=True)

        job.delay(42)
        with app.connection_for_read() as connection:
            print(type(connection.transport).__module__, connection.SimpleQueue('celery').qsize())
        app.Worker(pool='solo', loglevel='INFO', without_mingle=True, without_gossip=True).start()
    '''
    process = subprocess.Popen([sys.executable, '-c', textwrap.dedent(code)], cwd=ROOT, text=True,
                               env=environment(tcp.at()), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        lines = iter(process.stdout.readline, '')
        assert next(lines) == 'celery_qos.transport 1\n'
        assert 'ran for 42\n' in lines     # reads until then
    finally:
        process.kill()
        process.communicate()


# -- failover

@pytest.mark.parametrize('scheme, conf', [('qos', {}), ('redis', {'broker_transport': TRANSPORT})])
def test_failover_at_the_start(tcp, scheme, conf):
    url = f'{scheme}://localhost:{free_port()}/0;{tcp.at(1, scheme)}'
    assert publish(url, **conf) == 'acme'
    assert tcp.client(1).exists('{qos:celery:0}:settings')


@pytest.mark.parametrize('scheme, conf', [('qos', {}), ('redis', {'broker_transport': TRANSPORT})])
def test_failover_of_a_producer_at_run_time(tcp, scheme, conf):
    first = TCPServer().start()
    app = Celery('address', broker=f'{first.at(1, scheme)};{tcp.at(1, scheme)}')
    app.conf.update(broker_transport_options=QUICK, **conf)
    try:
        app.send_task('job', (1,), tenant='acme')
        assert first.client(1).exists('{qos:celery:0}:tenant:0::acme')
        first.stop()
        app.send_task('job', (2,), tenant='acme', retry_policy=QUICK)
        assert tcp.client(1).xlen('{qos:celery:0}:tenant:0::acme') == 1
    finally:
        first.stop()
        app.close()
        pools.reset()


@pytest.mark.parametrize('scheme', ['qos', 'redis'])
def test_failover_of_a_worker_at_run_time(tcp, scheme):
    conf = f'{{"broker_transport": "{TRANSPORT}"}}' if scheme == 'redis' else '{}'
    first = TCPServer().start()
    env = {'QOS_TEST_CONF': conf, 'QOS_TEST_NOTES': tcp.socket}
    url = f'{first.at(1, scheme)};{tcp.at(1, scheme)}'
    try:
        with Worker(url, app='tests.integration.apps.tenants', env=env, pool='solo') as worker:
            first.stop()
            app = Celery('address', broker=tcp.at(1))
            app.send_task('tests.integration.apps.tenants.note', ('x',), tenant='acme')
            until(lambda: tcp.client(2).lrange('notes', 0, -1) == [b'["x", "acme"]'], what=worker.log)
            app.close()
    finally:
        first.stop()


# -- key prefixes

def test_prefixes_keep_apart(server, redis):
    with ExitStack() as stack:
        queues = []
        for prefix in 'a:', 'b:':
            options = {'global_keyprefix': prefix}
            connection = stack.enter_context(Connection(server.url('qos'), transport_options=options))
            queues.append(connection.SimpleQueue('jobs'))
        queues[0].put('for a', headers={'tenant': 'acme'})
        assert [queue.qsize() for queue in queues] == [1, 0]
        message = queues[0].get(timeout=5)
        assert message.payload == 'for a'
        message.ack()
        queues[1].put('for b')
        assert {key.decode().lstrip('{')[:2] for key in redis.keys()} == {'a:', 'b:'}


def test_a_worker_with_a_prefix_leaves_no_key_without_it(server, redis):
    conf = {'broker_transport_options': {'global_keyprefix': 'mine:'}}
    env = {'QOS_TEST_CONF': json.dumps(conf), 'QOS_TEST_NOTES': server.socket}
    app = Celery('address', broker=server.url('qos'))
    app.conf.update(conf)
    with Worker(server, app='tests.integration.apps.tenants', env=env, backend='', pool='solo',
                options=['-E']) as worker:
        app.send_task('tests.integration.apps.tenants.note', ('x',), tenant='acme')
        app.send_task('tests.integration.apps.tenants.retried', ('r',), tenant='acme', countdown=0.1)
        assert app.control.inspect([worker.name], timeout=5, limit=1).ping()
        until(lambda: server.client(2).llen('notes') == 4)
        names = [key.decode() for key in redis.keys()]
        assert [name for name in names if not name.lstrip('{/').startswith('mine:')] == []
        assert '{mine:qos:celery:0}:leases' in names
    app.close()


# -- mistakes

def refused(url, **conf):
    with pytest.raises(ConfigError) as caught:
        publish(url, **conf)
    return str(caught.value)


def test_options_of_a_url(tcp, server):
    assert "'visibility_timeout' is unknown" in refused(tcp.at() + '?visibility_timeout=3')
    assert "'foo' is unknown" in refused(f'{tcp.at()};{tcp.at(1)}?foo=1')
    assert "'password' is unknown" in refused(f'qos+socket://{server.socket}?password=x')


@pytest.mark.parametrize('options, near', [
    ({'algoritm': 'wrr'}, "'algorithm'"), ({'algorithm': 'wr'}, "'wrr'"), ({'tenant': {}}, "'tenants'"),
    ({'tenants': {'acme': {'wieght': 2}}}, "'weight'"),
    ({'queues': {'celery': {'lease_second': 3}}}, "'lease_seconds'"),
    ({'default_tenant': {'weigth': 2}}, "'weight'")])
def test_options_of_qos(server, options, near):
    assert f'did you mean {near}' in refused(server.url('qos'), broker_transport_options={'qos': options})


@pytest.mark.parametrize('scheme', ['sentinel', 'amqps', 'memory'])
def test_a_scheme_of_another_transport_is_refused(scheme):
    connection = Connection(f'{scheme}://nohost', transport='celery_qos.transport:Transport')
    with pytest.raises(ConfigError, match=f"scheme '{scheme}' is not one of qos, qoss, redis, rediss"):
        connection.connect()


def test_a_worker_with_a_wrong_option_ends(server):
    env = {'QOS_TEST_CONF': '{"broker_transport_options": {"qos": {"algoritm": "wrr"}}}', 'QOS_TEST_NOTES': ''}
    with Worker(server, app='tests.integration.apps.tenants', env=env, ready=False) as worker:
        assert worker.wait() != 0
        assert "did you mean 'algorithm'?" in worker.log()


# -- passwords stay out of sight

@pytest.mark.parametrize('url', ['qos://:s3cret@localhost:1/0', 'qos://user:s3cret@localhost:1/0',
                                 'qoss://user:s3cret@localhost:1/0', 'qos+socket://:s3cret@/tmp/redis.sock'])
def test_as_uri_hides_the_password(url):
    connection = Connection(url)
    assert 's3cret' not in connection.as_uri() and 's3cret' not in repr(connection)
    assert 's3cret' in connection.as_uri(include_password=True)
    assert connection.transport
    assert 's3cret' not in connection.as_uri() and 's3cret' not in repr(connection)
    assert connection.as_uri().partition('://')[0] == url.partition('://')[0]
    assert Connection(connection.as_uri(include_password=True)).as_uri() == connection.as_uri()


def test_a_worker_shows_no_password(protected):
    url = protected.at(credentials=':s3cret')
    if celery.VERSION >= (5, 7):    # before, Celery's own stats show every URL of a failover list as it is
        url = f'{url};{protected.at(1, credentials=":s3cret")}'
    with Worker(url, pool='solo') as worker:
        app = Celery('address', broker=protected.at(credentials=':s3cret'))
        inspect = app.control.inspect([worker.name], timeout=5, limit=1)
        assert 's3cret' not in repr(inspect.stats()) + repr(inspect.report()) + repr(inspect.conf())
        worker.terminate()
        worker.wait()
        assert 's3cret' not in worker.log()
        app.close()


# -- servers that are too old

class Old(ThreadingTCPServer):
    """Says that it is Redis 6.0, and OK to almost everything else."""

    allow_reuse_address = daemon_threads = True

    class RequestHandlerClass(StreamRequestHandler):
        def handle(self):
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2])
                text = b'# Server\r\nredis_version:6.0.9\r\n'
                info = b'$%d\r\n%b\r\n' % (len(text), text)
                self.wfile.write({b'INFO': info, b'PING': b'+PONG\r\n'}.get(words[0].upper(), b'+OK\r\n'))

    def __init__(self):
        super().__init__(('127.0.0.1', 0), self.RequestHandlerClass)


@pytest.fixture
def old():
    with Old() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'qos://127.0.0.1:{server.server_address[1]}/0'
        server.shutdown()


def test_an_old_server_is_refused_at_publish(old):
    with pytest.raises(UnsupportedServer, match=r'6\.0\.9.*6\.2'):
        publish(old)


def test_an_old_server_ends_the_worker(old):
    with Worker(old, pool='solo', ready=False) as worker:
        assert worker.wait() != 0
        assert 'UnsupportedServer' in worker.log() and '6.0.9' in worker.log()
