"""`eta`, `countdown` and retries wait in Redis; expired and revoked tasks are told of, and take no slot."""
from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery

import celery_qos
from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .pools import POOLS

NS = keys.namespace('celery')


def with_results(server) -> Celery:
    """An app that publishes to workers of the ledger and reads what becomes of its tasks."""
    return Celery('reader', broker=server.url('qos'), backend=server.url('redis', 1), set_as_current=False)


@pytest.mark.parametrize('pool', POOLS)
def test_starts_in_time_and_takes_no_slot(server, pool):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.worker(pool, 1):
        due = datetime.now(timezone.utc) + timedelta(seconds=1.5)
        for number in range(3):
            ledger.send('t', f'delayed {number}', eta=due)
        ledger.send('t', 'at once', countdown=0)
        assert ledger.until('end', 1) == ['at once']
        assert len(celery_qos.control(ledger.app).delayed()) == 3
        until(lambda: ledger.redis.xlen(keys.egress(NS)) == 0, 1)
        ledger.until('end', 4)
        starts = {event['mark']: event['at'] for event in ledger.events if event['event'] == 'start'}
        assert 0 <= starts['delayed 0'] - due.timestamp() < 0.2
        assert ledger.marks('start')[1:] == ['delayed 0', 'delayed 1', 'delayed 2']
        ledger.until_idle()


def test_a_delayed_task_outlives_workers(server):
    ledger = Ledger(server)
    with ledger.worker('solo') as worker:
        ledger.send('t', 'later', countdown=1)
        worker.kill()
    assert len(celery_qos.control(ledger.app).delayed()) == 1
    with ledger.worker('solo'):
        assert ledger.until('end', 1) == ['later']


@pytest.mark.parametrize('pool', POOLS)
def test_a_retry_waits_in_redis(server, pool):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.worker(pool, 1):
        ledger.send('t', 'again', seconds=1.0, task='retried')
        ledger.until('retry', 1)
        delayed, = until(lambda: list(celery_qos.control(ledger.app).delayed()))
        assert (delayed.tenant, delayed.retries) == ('t', 1)
        assert delayed.name == 'tests.integration.apps.ledger.retried'
        ledger.send('t', 'meanwhile')
        assert ledger.until('end', 2) == ['meanwhile', 'again']


def test_a_revoked_task_is_not_run_by_any_worker(server):
    ledger = Ledger(server, {'task_ignore_result': False})
    app = with_results(server)
    with ledger.worker('solo', backend=server.url('redis', 1)) as first, ledger.worker('solo'):
        result = app.send_task('tests.integration.apps.ledger.early', ('t', 'revoked'), countdown=2, tenant='t')
        until(lambda: len(celery_qos.control(app).delayed()) == 1)
        listed = [task for tasks in app.control.inspect(timeout=5, limit=2).scheduled().values() for task in tasks]
        assert [(task['request']['id'], task['request']['args']) for task in listed] == [(result.id, ['t', 'revoked'])]
        app.control.revoke(result.id)
        until(lambda: result.state == 'REVOKED', what='the state of a revoked task')
        first.kill()
    with ledger.worker('solo'):
        ledger.send('t', 'after', countdown=2)
        assert ledger.until('end', 1) == ['after']
        ledger.until_idle()


@pytest.mark.parametrize('pool', POOLS)
def test_cancelled_and_expired_tasks_are_told_of(server, pool):
    ledger = Ledger(server, {'task_ignore_result': False, 'worker_prefetch_multiplier': 1})
    app = with_results(server)
    name = 'tests.integration.apps.ledger.early'
    with ledger.worker(pool, 1, backend=server.url('redis', 1)) as worker:
        cancelled = app.send_task(name, ('t', 'cancelled'), countdown=60, tenant='t')
        assert celery_qos.control(app).delayed().cancel(cancelled.id, 'unknown') == [cancelled.id]
        until(lambda: cancelled.state == 'REVOKED', what='the state of a cancelled task')
        ledger.send('t', 'long', seconds=1.5)
        ledger.until('start', 1)
        ledger.send('t', 'fills the slot')
        expired = [app.send_task(name, ('u', 'expired'), expires=0.5, tenant='u') for _ in range(3)]
        ledger.until('end', 2)
        for result in expired:
            until(lambda result=result: result.state == 'REVOKED', what='the state of an expired task')
        ledger.until_idle()
        worker.terminate()
        worker.wait()
    assert set(ledger.marks('start')) == {'long', 'fills the slot'}
    assert ledger.stray_keys() == []


def test_dead_letters(server, tmp_path):
    ledger = Ledger(server, {'broker_transport_options': {'qos': {'max_deliveries': 2}}})
    letters = celery_qos.control(ledger.app).dead_letters()
    with ledger.worker('threads', 2) as worker:
        ledger.send('t', 'never', task='hopeless')
        ledger.send('t', 'refused', task='refused')
        ledger.redis.xadd(keys.egress(NS), {'x': 'y'})
        ledger.send('t', 'after')
        ledger.until('end', 1)
        until(lambda: len(letters) == 3)
        assert len(re.findall('is not a message', worker.log())) == 1
    reasons = {letter.reason: letter for letter in letters}
    assert set(reasons) == {'delivered 2 times', 'rejected', "malformed: field b'properties' is missing"}
    letter = reasons['delivered 2 times']
    assert (letter.tenant, letter.deliveries, letter.name) == ('t', 2, 'tests.integration.apps.ledger.hopeless')
    with open(tmp_path / 'letters.jsonl', 'w') as file:
        assert letters.export(file) == len(letters)
    assert letters.delete(letter.letter_id) == 1
    refused = reasons['rejected']
    assert letters.requeue(refused.letter_id) == 1
    with ledger.worker('threads', 2):
        until(lambda: any(each.task_id == refused.task_id for each in letters))


def test_a_publication_that_is_tried_again_enters_once(server):
    """The reply to the first try is lost: the connection is cut between the script and its reply."""
    ledger = Ledger(server)
    app = ledger.app
    with app.connection_for_write() as connection, connection.channel() as channel:
        store, lost = channel.store, []
        client = store.client.execute_command

        def lose_reply(*args, **options):
            reply = client(*args, **options)
            if args[0] in ('EVALSHA', 'EVAL') and not lost:
                lost.append(True)
                raise ConnectionError('the reply was lost')
            return reply
        store.client.execute_command = lose_reply
        producer = app.amqp.Producer(channel)
        app.send_task('tests.integration.apps.ledger.early', ('t', 'once'), tenant='t', producer=producer,
                      retry=True, retry_policy={'interval_start': 0})
    assert lost
    assert celery_qos.store.Store(ledger.redis).size('celery') == 1


def test_an_id_of_ones_own_enters_once(server):
    ledger = Ledger(server)
    for _ in range(2):
        ledger.send('t', 'order 17', deduplication_id='order 17')
    assert celery_qos.store.Store(ledger.redis).size('celery') == 1
