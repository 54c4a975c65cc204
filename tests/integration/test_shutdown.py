"""A worker that is told to stop: what has not started runs elsewhere at once, and what runs ends or goes back."""
from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from signal import SIGINT, SIGQUIT, SIGTERM

import pytest

from celery_qos import keys
from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .ledger import Ledger

NS = keys.namespace('celery')
QUICK = '--without-mingle', '--without-gossip'
#: Acknowledged early, acknowledged late.
RUNNING = ['held early', 'held late']
UNSTARTED = [f'{ack} {number}' for number in range(3) for ack in ('early', 'late')]


@contextmanager
def filled_worker(ledger, pool, running):
    """A worker that runs `running`, and has prefetched the rest."""
    for mark in running:
        ledger.send('t', mark, task=mark.replace(' ', '_'))
    for mark in UNSTARTED:
        ledger.send('t', mark, task=mark.split()[0])
    with ledger.worker(pool, len(running), ('--prefetch-multiplier', '8', *QUICK)) as worker:
        ledger.until('start', len(running))
        held = len(UNSTARTED) + sum('late' in mark for mark in running)
        until(lambda: ledger.redis.xpending(keys.egress(NS), keys.GROUP)['pending'] >= held, 5)
        if pool != 'solo':
            # It has passed on what it read. In Celery 5.5 a signal's handler may raise, and a line of the log that it
            # comes upon would swallow that.
            ledger.tell('broadcast', 'ping', destination=[worker.name])
        yield worker


def handed_back(ledger):
    """Marks of the tasks in egress that nobody holds, in order; none of them counts as a failed delivery."""
    held = {entry['message_id'] for entry in ledger.redis.xpending_range(keys.egress(NS), keys.GROUP, '-', '+', 100)}
    free = [fields for entry_id, fields in ledger.redis.xrange(keys.egress(NS)) if entry_id not in held]
    assert {fields.get(b'deliveries', b'0') for fields in free} <= {b'0'}, free
    return [json.loads(fields[b'body'])[0][1] for fields in free]


def check_end(ledger, ended, back):
    """What ran ended, or is handed back; where `ended` is None, that is for Celery to say."""
    at_last = ledger.marks('end')
    if ended is None:
        # It fails what it cuts off, or leaves it without a word, as it comes upon the loop or a greenlet.
        assert handed_back(ledger) in ([*UNSTARTED], [*UNSTARTED, *({'held late'} - set(at_last))])
    else:
        assert Counter(at_last) == Counter(ended)
        assert handed_back(ledger) == [*UNSTARTED, *back]


@pytest.mark.parametrize('pool, running', [
    ('prefork', RUNNING), ('threads', RUNNING), ('gevent', RUNNING), ('solo', ['held early']), ('solo', ['held late'])])
def test_what_has_not_started_at_a_warm_shutdown_runs_elsewhere_meanwhile(server, pool, running):
    # Some wait for their rate, some for the pool, some for Celery.
    ledger = Ledger(server, {'task_annotations': {'tests.integration.apps.ledger.early': {'rate_limit': '1/h'}}})
    with filled_worker(ledger, pool, running) as worker:
        worker.terminate()
        until(lambda: handed_back(ledger) == UNSTARTED, 5, f'{handed_back(ledger)}')
        ledger.send('t', 'waits')
        with Ledger(server).worker('solo', 1, QUICK) as heir:
            assert ledger.until('end', len(UNSTARTED) + 1) == [*UNSTARTED, 'waits']
            assert {event['worker'] for event in ledger.events if event['event'] == 'end'} == {heir.name}
            assert ledger.redis.hlen(keys.slots(NS)) == 1, 'the first still has slots'
            ledger.let_end(*running)
            assert worker.wait() == 0
            ledger.until_idle()
    assert Counter(ledger.marks('end')) == Counter(ledger.marks('start')) == Counter([*running, *UNSTARTED, 'waits'])


@pytest.mark.parametrize('pool, running, ended, back', [
    ('prefork', RUNNING, ['held early'], ['held late']),
    # Celery cannot end a thread.
    ('threads', RUNNING, RUNNING, []),
    # Celery can wait in the handler of a signal, or not, as it comes upon a greenlet.
    ('gevent', RUNNING, None, None),
    # Celery waits instead of the task, and then fails it.
    ('solo', ['held late'], [], []),
])
@pytest.mark.once
def test_a_soft_shutdown_waits_for_what_runs_only(server, pool, running, ended, back, monkeypatch):
    monkeypatch.setenv('REMAP_SIGTERM', 'SIGQUIT')
    ledger = Ledger(server, {'worker_soft_shutdown_timeout': 2})
    with filled_worker(ledger, pool, running) as worker:
        worker.signal(SIGTERM)
        until(lambda: handed_back(ledger) == UNSTARTED, 1.5, f'{handed_back(ledger)}')
        ledger.send('t', 'waits')
        ledger.let_end(*(['held early'] if ended is not None else RUNNING))
        if ended == RUNNING:
            worker.wait_for('Unrecoverable error')
            assert worker.returncode is None
            ledger.let_end('held late')
        worker.wait()
    check_end(ledger, ended, back)


@pytest.mark.once
def test_an_idle_worker_takes_nothing_during_a_soft_shutdown(server):
    ledger = Ledger(server, {'worker_soft_shutdown_timeout': 1.5, 'worker_enable_soft_shutdown_on_idle': True})
    with ledger.worker('threads', options=QUICK) as worker:
        ledger.send('t', 'before')
        ledger.until('end', 1)
        ledger.until_idle()
        worker.signal(SIGQUIT)
        until(lambda: not ledger.redis.exists(keys.slots(NS)), 1)
        ledger.send('t', 'waits')
        worker.wait()
    assert ledger.marks('start') == ['before']
    assert ledger.redis.hgetall(keys.waiting(NS))[b':t'] == b'1'


@pytest.mark.parametrize('pool, running, signals, ended, back', [
    # What is acknowledged early is gone when it is cut off.
    ('prefork', RUNNING, [SIGQUIT], [], ['held late']),
    ('prefork', RUNNING, [SIGINT, SIGINT], [], ['held late']),
    ('prefork', RUNNING, [SIGTERM, SIGQUIT], [], ['held late']),
    ('threads', RUNNING, [SIGQUIT], RUNNING, []),
    # On the stock transport too, Celery may acknowledge what it cuts off.
    ('gevent', RUNNING, [SIGQUIT], None, None),
    ('gevent', RUNNING, [SIGTERM, SIGQUIT], None, None),
    ('solo', ['held early'], [SIGQUIT], [], []),
    ('solo', ['held late'], [SIGTERM, SIGQUIT], [], []),
])
def test_a_cold_shutdown_hands_back_what_is_not_finished(server, pool, running, signals, ended, back):
    ledger = Ledger(server)
    with filled_worker(ledger, pool, running) as worker:
        for number in signals:
            worker.signal(number)
            until(lambda: handed_back(ledger)[:len(UNSTARTED)] == UNSTARTED, 5, f'{handed_back(ledger)}')
        ledger.let_end(*(RUNNING if ended is None else ended))
        worker.wait()
    check_end(ledger, ended, back)


@pytest.mark.parametrize('pool, number', [('threads', SIGTERM), ('prefork', SIGQUIT)])
def test_while_the_connection_is_lost(server, pool, number):
    with EmbeddedRedis(server.binary) as lost:
        ledger = Ledger(lost, book=server)
        with filled_worker(ledger, pool, RUNNING) as worker:
            lost.kill()
            worker.wait_for('Cannot connect to')
            worker.signal(number)
            ledger.let_end(*RUNNING)
            worker.wait()
            assert 'AttributeError' not in worker.log()
    assert set(ledger.marks('start')) == set(RUNNING)
