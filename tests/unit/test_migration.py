"""A message of the stock transport becomes one of this, and the same again; and whose a task is."""
from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime, timezone
from ssl import CERT_REQUIRED
from types import SimpleNamespace

import pytest
from celery import Celery
from click.testing import CliRunner
from kombu.serialization import dumps as serialize
from kombu.utils.json import dumps, loads

from celery_qos.codec import encode
from celery_qos.commands.migrate import command
from celery_qos.errors import ConfigError, TenantKeyError
from celery_qos.migrate.message import message_of, parse, parse_unacked, task_id_of
from celery_qos.migrate.report import MOST_NOTED, Moved
from celery_qos.migrate.stock import connection_to
from celery_qos.migrate.tenants import Tenants
from celery_qos.store import Delivery

STAMPED = {'body_encoding', 'delivery_tag'}


def stock_message(body=b'[[1], {}, {}]', headers=None, **kwargs):
    return {
        'body': b64encode(body).decode(), 'content-type': 'application/json', 'content-encoding': 'utf-8',
        'headers': {'task': 'sync', 'id': 'one', **(headers or {})},
        'properties': {'correlation_id': 'one', 'reply_to': 'back', 'delivery_mode': 2, 'priority': 3,
                       'delivery_info': {'exchange': '', 'routing_key': 'celery'}, 'body_encoding': 'base64',
                       'delivery_tag': 'tag'}, **kwargs}


def delivery_of(message, tenant=''):
    fields = encode(message, tenant)
    return Delivery('celery', '1-1', {
        name.encode(): value.encode() if isinstance(value, str) else value for name, value in fields.items()})


def there_and_back(message, queue=None):
    return loads(dumps(message_of(delivery_of(parse(dumps(message).encode())), queue)))


@pytest.mark.parametrize('serializer', ['json', 'pickle', 'yaml', 'msgpack'])
def test_a_message_comes_back_as_it_was(serializer):
    content_type, encoding, body = serialize(((1, 'ä'), {'when': '2030'}, {'chord': None}), serializer)
    message = stock_message(body if isinstance(body, bytes) else body.encode(), {
        'eta': '2030-01-01T00:00:00+00:00', 'expires': '2031-01-01T00:00:00+00:00', 'retries': 2, 'group': 'g',
        'compression': 'application/x-gzip', 'ignore_result': False, 'stamps': {}},
        **{'content-type': content_type, 'content-encoding': encoding})

    again = there_and_back(message)

    assert again['properties'].pop('delivery_tag') != message['properties'].pop('delivery_tag')
    assert again == message


def test_a_body_that_is_not_base64_is_kept():
    message = stock_message()
    message['body'], message['properties']['body_encoding'] = 'ä', None
    assert parse(dumps(message).encode())['body'] == 'ä'


def test_a_time_of_a_type_of_its_own_is_text_again():
    message = stock_message(headers={'eta': datetime(2030, 1, 1, tzinfo=timezone.utc)})
    assert there_and_back(message)['headers']['eta'] == '2030-01-01T00:00:00+00:00'


def test_in_another_queue_retries_go_there_too():
    info = there_and_back(stock_message(), 'other')['properties']['delivery_info']
    assert info == {'exchange': '', 'routing_key': 'other'}


@pytest.mark.parametrize('entry, problem', [
    (b'\xff', 'not JSON'), (b'{', 'not JSON'), (b'[]', 'with a body'), (b'{}', 'with a body'),
    (b'{"body": 1}', 'with a body'), (b'{"body": ""}', 'properties'), (b'{"body": "", "properties": []}', 'properties'),
    (b'{"body": "", "properties": {}, "headers": [1]}', 'headers'),
    (b'{"body": "", "properties": {"delivery_info": 1}}', 'delivery_info'),
    (b'{"body": "%", "properties": {"body_encoding": "base64"}}', 'not base64'),
    (b'{"body": "", "properties": {"body_encoding": "rot13"}}', "'rot13'"),
    (b'{"body": "", "properties": {}, "content-type": 1}', 'content-type'),
    (json.dumps({'__type__': 'decimal', '__value__': 'x'}).encode(), 'not JSON')])
def test_what_is_no_message_says_why(entry, problem):
    with pytest.raises(ValueError, match=problem):
        parse(entry)


def test_an_entry_of_what_is_not_acknowledged_is_taken_apart_and_stays_as_it_is():
    message = stock_message()
    assert parse_unacked(dumps([message, 'ex', 'key']).encode()) == (message, 'ex', 'key')
    for entry in b'{}', b'[1, 2, 3]', dumps([{}, '', '']).encode():
        with pytest.raises(ValueError):
            parse_unacked(entry)


def test_a_task_has_a_name_to_speak_of_it():
    assert task_id_of(parse(dumps(stock_message()).encode())) == 'one'


@pytest.fixture(scope='module')
def app():
    app = Celery('shop', set_as_current=False)

    def by_account(account, *args, **kwargs):
        return account['id']

    @app.task(name='sync', tenant_key='account')
    def sync(account, other=None): ...

    @app.task(name='call', tenant_key=by_account)
    def call(account): ...

    @app.task(name='plain')
    def plain(): ...

    @app.task(name='high', sub_queue='high')
    def high(): ...

    return app


def found(app, body, headers=None, tenants=None, **kwargs):
    message = parse(dumps(stock_message(json.dumps(body).encode(), headers, **kwargs)).encode())
    problem = (tenants or Tenants(app, 'nobody')).stamp(message)
    return message['headers'].get('tenant'), problem


def test_the_header_comes_before_the_arguments(app):
    assert found(app, [['acme'], {}, {}], {'tenant': 'header'}) == ('header', None)
    assert found(app, [['acme'], {}, {}]) == ('acme', None)
    assert found(app, [[], {'account': 7}, {}]) == ('7', None)
    assert found(app, [[['acme', 'alice']], {}, {}]) == (['acme', 'alice'], None)


def test_headers_inside_the_headers_say_the_same(app):
    """As Sentry has them: a retry bears those alone."""
    def inner(inside, tenants):
        message = parse(dumps(stock_message(b'[[], {}, {}]', {'task': 'high', 'headers': inside})).encode())
        tenants.stamp(message)
        return message['headers']['headers']
    stale = {'tenant': 'stale', 'sentry-trace': 'x'}
    assert inner(stale, Tenants(app, always='acme')) == {
        'tenant': 'acme', 'sub_queue': 'high', 'sentry-trace': 'x'}
    assert inner(stale, Tenants(app)) == {'sub_queue': 'high', 'sentry-trace': 'x'}
    assert inner(None, Tenants(app, 'acme')) is None


def test_a_callable_a_chord_and_the_first_protocol_work(app):
    assert found(app, [[{'id': 5}], {}, {}], {'task': 'call'}) == ('5', None)
    unlock = [['g', {'task': 'x', 'options': {'tenant': 'acme'}}], {}, {}]
    assert found(app, unlock, {'task': 'celery.chord_unlock'}) == ('acme', None)
    message = parse(dumps({**stock_message(
        json.dumps({'task': 'sync', 'id': 'one', 'args': ['old'], 'kwargs': {}}).encode()), 'headers': {}}).encode())
    assert (Tenants(app).stamp(message), message['headers']['tenant']) == (None, 'old')


def test_without_a_tenant_it_is_of_the_one_given_and_says_why(app):
    assert found(app, [[], {}, {}], {'task': 'plain'}) == ('nobody', '')
    assert found(app, [[], {}, {}], {'task': 'unknown'}) == ('nobody', '')
    assert found(app, [[], {}, {}], tenants=Tenants(app)) == (None, '')
    tenant, problem = found(app, [[3], {}, {}], {'task': 'call'})
    assert tenant == 'nobody' and 'raised TypeError' in problem
    assert found(app, [['x' * 300], {}, {}])[0] == 'nobody'
    tenant, problem = found(app, [['acme'], {}, {}], **{'content-type': 'application/x-python-serialize'})
    assert tenant == 'nobody' and 'cannot be read' in problem


def test_all_under_one_tenant(app):
    tenants = Tenants(app, always='backlog')
    assert found(app, [['acme'], {}, {}], {'tenant': 'header'}, tenants) == ('backlog', None)
    with pytest.raises(TenantKeyError):
        Tenants(app, always='x' * 300)


def test_the_tasks_own_sub_queue_is_named(app):
    message = parse(dumps(stock_message(headers={'task': 'high'})).encode())
    Tenants(app).stamp(message)
    assert message['headers']['sub_queue'] == 'high'


@pytest.mark.parametrize('options, named', [
    (['--back', '--from', 'redis://'], '--to'), (['--to', 'redis://'], '--from'), (['--to-queue', 'x'], '--queue'),
    (['--back', '--tenant', 'x'], '--tenant'), (['--back', '--unacked'], '--unacked'),
    (['--tenant', 'x', '--one-tenant', 'y'], '--one-tenant'), (['--unacked', '--follow'], '--follow'),
    (['--stock-options', '{'], '--stock-options')])
def test_options_that_contradict_each_other_are_told_before_anything_is_done(options, named):
    app = Celery('shop', broker='qos://nowhere.invalid', set_as_current=False)
    result = CliRunner().invoke(command, options, obj=SimpleNamespace(app=app, no_color=True))
    assert result.exit_code == 2 and named in result.output and result.output.count('\n') == 1


@pytest.mark.parametrize('given, stock', [
    ('redis://:pw@host:1/2', 'qos://:pw@host:1/2'), ('rediss://host', 'qoss://host:6379/%2F'),
    ('redis+socket:///a/redis:b?virtual_host=1', 'qos+socket:///a/redis:b?virtual_host=1'),
    ('sentinel://a:1;sentinel://:pw@b:2/3', 'qos-sentinel://:pw@a:1/3')])
def test_a_stock_url_is_taken_as_the_apps_own_would_be(given, stock):
    app = Celery('shop', broker='qos://elsewhere', set_as_current=False)
    connection = connection_to(app, given, {'master_name': 'main'})
    assert connection.transport.as_uri('', include_password=True) == stock


def test_tls_is_spoken_and_verified_as_by_the_app_itself():
    secure = connection_to(Celery('shop', broker='qoss://host', set_as_current=False))
    assert secure.transport
    assert secure.ssl['ssl_cert_reqs'] == CERT_REQUIRED
    assert not connection_to(Celery('shop', broker='qos://host', set_as_current=False)).ssl
    with Celery('shop', broker='qos://host', set_as_current=False, broker_use_ssl=True) as app:
        for ssl, spoken in ({}, True), ({'ssl': False}, False):
            connection = connection_to(app, 'redis://host', ssl)
            assert connection.transport and bool(connection.ssl) is spoken
    plain = Celery('shop', broker='qos://host', set_as_current=False)
    verified = connection_to(plain, 'rediss://host')
    assert verified.transport and verified.ssl['ssl_cert_reqs'] == CERT_REQUIRED


def test_the_stock_deployment_is_on_redis():
    with pytest.raises(ConfigError, match='must begin with redis://'):
        connection_to(Celery('shop', set_as_current=False), 'amqp://')
    with pytest.raises(ConfigError, match='master_name: is not given'):
        connection_to(Celery('shop', set_as_current=False), 'sentinel://host')


def test_the_note_that_matters_most_comes_first():
    report = Moved('celery', 'celery')
    for number in range(MOST_NOTED + 2):
        report.note(f'{number}')
    report.note('all', first=True)
    assert report.notes == ['all', *map(str, range(MOST_NOTED - 1))]
