"""What the log says, at INFO and above, while everything is refused: no password, and nothing of a task's arguments."""
from __future__ import annotations

import logging

import pytest
from celery import Celery
from kombu import pools
from redis.exceptions import ResponseError

from celery_qos import address, keys
from celery_qos.embedded import EmbeddedRedis
from celery_qos.store import Store

from .ledger import Ledger
from .ports import free_port

PASSWORD, ARGUMENT = 'pass-5f0c2e', 'card-4000-0027'
SECRETS = PASSWORD, ARGUMENT
NS = keys.namespace('celery')


def leaks(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(secret in line for secret in SECRETS)]


@pytest.fixture
def tcp():
    """A server of its own, with a user `app`."""
    port = free_port()
    with EmbeddedRedis(None, '--port', str(port), '--bind', '127.0.0.1') as server:
        server.port = port
        server.client().execute_command('ACL', 'SETUSER', 'app', 'on', f'>{PASSWORD}', '~*', '&*', '+@all')
        yield server
    pools.reset()


def url(server: EmbeddedRedis, scheme: str = 'qos', user: str = 'app', query: str = '') -> str:
    return f'{scheme}://{user}:{PASSWORD}@localhost:{server.port}/0{query}'


@pytest.mark.once
def test_a_worker_keeps_secrets(tcp):
    ledger = Ledger(tcp, {'broker_transport_options': {'qos': {'lease_seconds': 2}}})
    admin = tcp.client()

    def user(*rules: str) -> None:
        admin.execute_command('ACL', 'SETUSER', 'app', *rules)

    ledger._url = url(tcp)
    with ledger.worker('solo') as worker:
        admin.xadd(keys.egress(NS), {'body': ARGUMENT, 'properties': f'["{ARGUMENT}"', 'headers': '{}'})
        worker.wait_for('is not a message')
        ledger.send('t', ARGUMENT, 0.5, task='late', kwargs={})
        ledger.until('start', 1)
        user('-xack')
        ledger.send('t', ARGUMENT)
        worker.wait_for('cannot settle [0-9]+ tasks .*(xack|run this command)')
        user('-evalsha')
        worker.wait_for('cannot renew the leases .*(evalsha|run this command)')
        user('+@all', 'resetpass', '>another')
        admin.client_kill_filter(_type='normal', skipme=True)
        worker.wait_for('(?s)Connection to broker lost.*invalid username-password')
        user(f'>{PASSWORD}')
        ledger.until('end', 2)
        ledger.until_idle()
        admin.execute_command('ACL', 'SETUSER', 'app', '-@all')
        tcp.kill()
        worker.wait_for('Cannot connect to qos://app:\\*\\*@localhost')
        worker.terminate()
        worker.wait()
        assert leaks(worker.log()) == []


def test_a_producer_keeps_secrets(tcp, caplog, monkeypatch):
    monkeypatch.setattr(address, 'HANDSHAKE_TIMEOUT', 0.3)
    caplog.set_level(logging.INFO)
    errors = []

    def publish(broker: str, **conf: object) -> None:
        app = Celery('secrets', broker=broker, set_as_current=False)
        app.conf.update(conf, broker_transport_options={'max_retries': 1, 'interval_start': 0, 'interval_step': 0})
        try:
            app.send_task('job', (ARGUMENT,), {'key': ARGUMENT}, tenant='acme')
        except Exception as exc:
            errors.append(f'{exc!r} {exc} {exc.__cause__}')
        finally:
            app.close()
            pools.reset()

    nowhere = f'localhost:{free_port()}'
    for broker in (f'qos://:{PASSWORD}@{nowhere}/0', f'qos://app:{PASSWORD}@{nowhere}/0',
                   f'qoss://app:{PASSWORD}@{nowhere}/0?ssl_password={PASSWORD}', f'qos://{nowhere}/0?secret={PASSWORD}',
                   url(tcp, user='nobody'), url(tcp, user=''), url(tcp, 'qoss'), url(tcp, 'qos+tcp'),
                   f'qos+socket://nobody:{PASSWORD}@{tcp.socket}?password={PASSWORD}',
                   f'qos://app:{PASSWORD}@{nowhere}/0;{url(tcp, user="nobody")}'):
        publish(broker)
    for rules in ['-evalsha'], ['+evalsha', '-xadd'], ['+xadd', '-@all']:
        tcp.client().execute_command('ACL', 'SETUSER', 'app', *rules)
        publish(url(tcp))
    assert len(errors) == 13
    assert leaks('\n'.join(errors)) == []
    assert leaks(caplog.text) == []


def test_what_a_server_quotes_of_a_command_is_left_out():
    with EmbeddedRedis(None, '--rename-command', 'EVALSHA', '', '--rename-command', 'XADD', '') as server:
        store = Store(server.client())
        with pytest.raises(ResponseError, match="^unknown command '?`?EVALSHA") as caught:
            store.enqueue('celery', ARGUMENT, 0, {'body': ARGUMENT})
        assert leaks(str(caught.value)) == [] and caught.value.__cause__ is None
