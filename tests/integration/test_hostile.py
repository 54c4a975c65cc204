"""Messages that no worker can run, and programs that mean no good: each ends somewhere, and stops nobody else."""
from __future__ import annotations

import json
import re
from typing import Any

import pytest
from kombu import pools
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

import celery_qos
from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .pools import POOLS

NS = keys.namespace('celery')
TASK = 'tests.integration.apps.ledger.early'
SECRET = 'SECRET'
BODY = json.dumps([['t', SECRET, 0], {}, {}])
HEADERS: dict[str, Any] = {'task': TASK, 'id': 'poison', 'lang': 'py', 'argsrepr': SECRET}


def entry(body: Any = BODY, headers: Any = HEADERS, properties: Any = None, **others: Any) -> dict[str, Any]:
    """The fields of an entry as the transport writes them; what is None is not there."""
    fields = {'tenant': 't', 'body': body, 'headers': headers, 'properties': {} if properties is None else properties,
              'content-type': 'application/json', 'content-encoding': 'utf-8', **others}
    return {name: value if isinstance(value, (str, bytes)) else json.dumps(value)
            for name, value in fields.items() if value is not None}


def with_headers(**headers: Any) -> dict[str, Any]:
    """Headers that are given as None are not there."""
    return entry(headers={name: value for name, value in {**HEADERS, **headers}.items() if value is not None})


#: What no worker can run, by the reason that its dead letter has.
POISON = {
    'fields missing': ({'junk': 'x'}, "malformed: field b'properties' is missing"),
    'no body': (entry(body=None), "malformed: field b'body' is missing"),
    'not UTF-8': (entry(properties=b'\xff'), 'malformed: properties or headers: UnicodeDecodeError'),
    'not UTF-8 outside': (entry(**{'content-type': b'\xff'}), 'malformed: .*'),
    'properties are a list': (entry(properties=[]), 'malformed: .* not JSON objects'),
    'delivery_info is a list': (entry(properties={'delivery_info': []}), 'malformed: .* not JSON objects'),
    'headers are text': (entry(headers='x'), 'malformed: .*'),
    'a decimal that is none': (entry(headers='{"x": {"__type__": "decimal", "__value__": "junk"}}'),
                               'malformed: properties or headers: InvalidOperation'),
    'deep': (entry(headers='[' * 100000), 'malformed: .*'),
    'the task is a list': (with_headers(task=['x']), 'malformed: .* wrong type'),
    'the task is an object': (with_headers(task={}), 'malformed: .* wrong type'),
    'the task is a number': (with_headers(task=5), 'malformed: .* wrong type'),
    'the id is a list': (with_headers(id=['x']), 'malformed: .* wrong type'),
    'no id': (with_headers(id=None), 'malformed: it has no id'),
    'no id, and unknown': (with_headers(id=None, task='unknown'), 'malformed: it has no id'),
    'unknown task': (with_headers(task='unknown'), 'rejected'),
    'body is no JSON': (entry(body='junk'), 'malformed: DecodeError.*'),
    'body has a date that is none': (
        entry(body='[[{"__type__": "datetime", "__value__": "' + SECRET + '"}], {}, {}]'),
        'malformed: DecodeError: ValueError'),
    'body is binary': (entry(body=b'\xff\xfe'), 'malformed: DecodeError.*'),
    'body is empty': (entry(body=''), 'malformed: its body .*'),
    'body is a number': (entry(body='5'), 'malformed: its body .*'),
    'body is null': (entry(body='null'), 'malformed: its body .*'),
    'body has one part': (entry(body='[1]'), 'malformed: its body .*'),
    'kwargs are a list': (entry(body='[[], [], {}]'), 'malformed: its body .*'),
    'options are a number': (entry(body='[[], {}, 5]'), 'malformed: its body .*'),
    'body is an object': (entry(body='{"a": 1}'), 'malformed: its body .*'),
    'pickle': (entry(**{'content-type': 'application/x-python-serialize'}), 'malformed: ContentDisallowed: .*'),
    'a type that is none': (entry(**{'content-type': 'junk'}), 'malformed: ContentDisallowed: .*'),
    'a charset that is none': (entry(**{'content-type': 'text/plain', 'content-encoding': 'junk'}), 'malformed: .*'),
    'compressed by nothing': (with_headers(compression='junk'), 'malformed: KeyError'),
    'compressed with junk': (with_headers(compression='application/x-gzip'), 'malformed: .*'),
    'eta is junk': (with_headers(eta='junk'), 'rejected'),
    'eta is a number': (with_headers(eta=5), 'rejected'),
    'expires is junk': (with_headers(expires='junk'), 'rejected'),
    'expires is a list': (with_headers(expires=[1]), 'rejected'),
    'timelimit is a number': (with_headers(timelimit=5), 'malformed: its timelimit .*'),
    'timelimit is text': (with_headers(timelimit=['a', 'b']), 'malformed: its timelimit .*'),
    'stamps are a number': (with_headers(stamped_headers=5), 'malformed: TypeError'),
    'protocol 1, no JSON': (entry(headers={}, body='junk'), 'malformed: DecodeError.*'),
    'protocol 1, no task': (entry(headers={}, body='{}'), 'rejected'),
    'protocol 1, a list': (entry(headers={}, body='[]'), 'rejected'),
    'protocol 1, the task is a list': (entry(headers={}, body='{"task": [], "id": "x"}'), 'malformed: TypeError'),
    'protocol 1, unknown': (entry(headers={}, body='{"task": "unknown", "id": "x"}'), 'rejected'),
    'protocol 1, unknown, no id': (entry(headers={}, body='{"task": "unknown"}'), 'malformed: KeyError'),
    'protocol 1, kwargs are a list': (entry(headers={}, body=json.dumps({'task': TASK, 'id': 'x', 'kwargs': [1]})),
                                      'rejected'),
}
#: What looks odd and runs nevertheless.
ODD = {
    'a content encoding of another kind': entry(**{'content-encoding': ''}),
    'a body encoding': entry(properties={'body_encoding': 'base64'}),
    'the id is a number': with_headers(id=5),
    'retries are text': with_headers(retries='x'),
    'retries are less than none': with_headers(retries=-1),
    'retries are many': with_headers(retries=10 ** 30),
    'priority is text': entry(properties={'priority': 'x'}),
    'expires very late': with_headers(expires='9999-12-31T23:59:59'),
    'eta long past': with_headers(eta='0001-01-02T00:00:00+00:00'),
    'more fields': entry(other='x', tracked='junk', deliveries='junk', redelivered='junk', enqueued='junk'),
    'tracked of nobody': entry(tracked='1.0', tenant=b'\xff', sub='none'),
}


def letters(ledger: Ledger) -> list:
    return list(celery_qos.control(ledger.app).dead_letters())


@pytest.mark.parametrize('pool', POOLS)
def test_poison_stops_no_worker(server, pool):
    ledger, egress = Ledger(server), keys.egress(NS)
    good, bad = {'first', *ODD}, set()
    ledger.send('t', 'first')
    with ledger.worker(pool) as worker:
        ledger.until('end', 1)
        for task in 'early', 'late':
            for name, (fields, _) in POISON.items():
                fields = {field: value.replace(TASK, TASK.replace('early', task)) if isinstance(value, str) else value
                          for field, value in fields.items()}
                ledger.redis.xadd(egress, {**fields, 'name': f'{task}: {name}'})
                ledger.send('t', f'good {task} {name}', task=task)
                bad.add(f'{task}: {name}')
                good.add(f'good {task} {name}')
        for name, fields in ODD.items():
            ledger.redis.xadd(egress, {**fields, 'body': BODY.replace(SECRET, name)})
        until(lambda: set(ledger.marks('end')) >= good or worker.returncode is not None, 40)
        assert worker.returncode is None, worker.log()
        until(lambda: len(letters(ledger)) >= len(bad), 10)
        ledger.until_idle()
        assert sorted(ledger.marks('end')) == sorted(good)
        reasons = {letter.other[b'name'].decode(): letter.reason for letter in letters(ledger)}
        assert set(reasons) == bad and len(letters(ledger)) == len(bad)
        assert {name: reason for name, reason in reasons.items()
                if not re.fullmatch(POISON[name.partition(': ')[2]][1], reason)} == {}
        ours = [line for line in worker.log().splitlines() if 'dead letters' in line]
        # Of the others Celery's log has enough.
        assert len(ours) == len([reason for reason in reasons.values() if reason != 'rejected']), worker.log()
        assert not any(SECRET in line for line in ours)
        worker.terminate()
        assert worker.wait() == 0
    assert ledger.stray_keys() == [keys.dead(NS)]


class TestKeysOfAWrongType:
    """While a worker is at work: it says so once, goes on as soon as the key is gone, and has nothing twice or lost."""

    @pytest.mark.parametrize('pool', ['solo', 'threads'])
    def test_a_worker_goes_on(self, server, pool):
        ledger = Ledger(server, {'broker_transport_options': {'qos': {'lease_seconds': 2}}})
        with ledger.worker(pool) as worker:
            ledger.send('t', 'first')
            ledger.until('end', 1)
            taken: list[str] = []
            for name in ('egress', 'leases', 'slots', 'state', 'waiting', 'settings', 'ready', 'delayed', 'discarded',
                         'dead', 'sweepers', 'bell', 'parked', 'in_flight', 'transient'):
                key = getattr(keys, name)(NS)
                kept = ledger.redis.dump(key)
                ledger.redis.delete(key)
                ledger.redis.set(key, 'by hand')
                if name == 'egress':
                    worker.wait_for('WRONGTYPE|WrongType')
                try:
                    ledger.send('t', f'while {name}', retry=False)
                    taken.append(f'while {name}')
                except (ResponseError, OperationalError) as exc:
                    assert 'WRONGTYPE' in str(exc)
                ledger.redis.delete(key)
                if kept and name not in ('egress', 'bell'):
                    # The worker may have made it anew.
                    ledger.redis.restore(key, 0, kept, replace=True)
                ledger.send('t', f'after {name}')
                until(lambda name=name: f'after {name}' in ledger.marks('end') or worker.returncode is not None, 30)
                assert worker.returncode is None, worker.log()
            until(lambda: set(taken) <= set(ledger.marks('end')), what=f'{taken}')
            assert len(ledger.marks('end')) == len(set(ledger.marks('end')))
            assert worker.log().count('cannot renew the leases') <= 15
            worker.terminate()
            assert worker.wait() == 0


BIG = 'x' * 10_000_000


def test_ten_megabytes(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    ledger.send('t', BIG)
    ledger.send('t', BIG, countdown=1)
    ledger.send('t', BIG, task='refused')
    with ledger.worker('threads'):
        until(lambda: len(ledger.marks('end')) == 2 and len(control.dead_letters()) == 1)
        assert ledger.marks('end') == [BIG, BIG]
        letter, = control.dead_letters()
        assert BIG.encode() in letter.body
        assert control.dead_letters().requeue(letter.letter_id) == 1
        until(lambda: [each.letter_id for each in control.dead_letters()] not in ([], [letter.letter_id]))


@pytest.mark.parametrize('tenant', [
    'a' * 255, 'é' * 127, '😀' * 63, 'e\u0301', 'שלום', 'مرحبا', 'a b', '{tag}', 'a:b', '%s', '*', '../..',
    5, 1.5, True, ('a', 'b'), ('a', 'b', 'c'), ['a'], '', None])
def test_a_tenant_key_that_may_be(server, tenant):
    ledger = Ledger(server)
    ledger.app.send_task(TASK, (tenant, '', 0), tenant=tenant)
    with ledger.app.connection_for_read() as connection:
        message = connection.default_channel.basic_get('celery', no_ack=True)
    stamped = message.headers.get('tenant')
    assert stamped == ([*map(str, tenant)] if isinstance(tenant, tuple) else
                       tenant[0] if isinstance(tenant, list) else tenant and str(tenant))
    assert celery_qos.control(ledger.app).tenant(tenant or '')['weight'] == 1
    assert ledger.stray_keys() == []


@pytest.mark.parametrize('tenant', [
    'a' * 256, 'é' * 128, '\0', 'a\0b', 'a\nb', '\x1f', 'a\x1fb', '\x7f', '\x85', '\u200b', '\u200f', '\u202e',
    '\u2028', '\ud800', 'a\udfff', '\ufeff', '\ue000', '\U0010ffff', b'bytes', {}, {'a': 1}, {'a'}, (), ('a',) * 4,
    ('a', ''), ('a', None), ('a', ('b',)), ('a', 'b\x1fc'), [[]], 'a\u00a0b'])
def test_a_tenant_key_that_may_not_be(server, tenant):
    ledger = Ledger(server)
    with pytest.raises(celery_qos.TenantKeyError):
        ledger.app.send_task(TASK, ('t', '', 0), tenant=tenant)
    assert ledger.stray_keys() == []


def contents(redis):
    """All there is of the queue, but how long tasks waited: who was delivered some before may tell of it late."""
    found = {key: redis.dump(key) for key in redis.scan_iter(f'{NS}*')
             if not key.startswith((f'{NS}:waits'.encode(), keys.settings(NS).encode()))}
    settings = redis.hgetall(keys.settings(NS))
    return found, {name: value for name, value in settings.items() if not name.startswith(b'total:wait')}


@pytest.mark.parametrize('version', ['1', '999', 'junk', ''])
def test_another_schema_version(server, version):
    """The publisher is told, a worker ends and says why, and what is there stays as it is."""
    ledger = Ledger(server)
    ledger.send('t', 'before')
    ledger.redis.hset(keys.settings(NS), 'schema', version)
    before = contents(ledger.redis)
    pools.reset()       # it looks when it connects
    other = Ledger(server)
    with pytest.raises(celery_qos.SchemaMismatch):
        other.send('t', 'refused')
    with pytest.raises(celery_qos.SchemaMismatch):
        celery_qos.control(other.app).set_tenant('t', weight=2)
    if version == '999':
        with other.worker('solo', ready=False) as worker:
            until(lambda: worker.returncode is not None, 30)
            assert worker.returncode != 0 and 'SchemaMismatch' in worker.log()
    assert contents(ledger.redis) == before
