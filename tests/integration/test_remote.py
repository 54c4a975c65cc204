"""Inspect and control commands, as existing tooling sends them: by Celery's API and its command line."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest
from celery.platforms import EX_UNAVAILABLE

import celery_qos
from celery_qos.publication import Publication
from celery_qos.worker import remote

from ..until import until
from .ledger import Ledger
from .workers import ROOT, environment

pytestmark = pytest.mark.once

INSPECT = ('qos_options', 'qos_status', 'qos_tenants', 'qos_why')
CONTROL = ('qos_pause', 'qos_resume', 'qos_set')


def celery(server, *words: str) -> str:
    """What the command writes; a worker that is busy may not answer in time."""
    return until(lambda: _celery(server, *words), 60)


def _celery(server, *words: str) -> str:
    run = subprocess.run([sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.basic', *words],
                         env=environment(server.url('qos')), cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert run.returncode in (0, EX_UNAVAILABLE), run.stdout + run.stderr
    return '' if run.returncode else run.stdout


def test_they_are_listed_with_their_arguments(server):
    listed = celery(server, 'inspect', '--list')
    assert all(name in listed for name in INSPECT) and 'qos_tenants [top=20 [sort=waiting' in listed
    listed = celery(server, 'control', '--list')
    assert all(name in listed for name in CONTROL) and 'qos_pause <tenant> [queue]' in listed


@pytest.mark.once
def test_a_worker_answers_and_obeys(server):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    control = celery_qos.control(ledger.app)
    with ledger.worker('threads', 1) as worker:
        def inspect(command, **arguments):
            ask = ledger.app.control.inspect(timeout=2, limit=1)._request
            return until(lambda: ask(command, **arguments))[worker.name]

        def order(command, **arguments):
            found, = until(lambda: ledger.app.control.broadcast(
                command, arguments, reply=True, timeout=2, limit=1))
            return found[worker.name]

        ledger.send('busy', 'held', task='held_late')
        ledger.until('start', 1)
        for number in range(3):
            ledger.send('acme', str(number), task_id=f'acme-{number}')
        ledger.send(('g', 'x'), 'inside')

        status = inspect('qos_status')
        assert list(status) == ['celery'] and (status['celery']['waiting'], status['celery']['slots']) == (4, 1)
        assert inspect('qos_status', queue='other')['other']['waiting'] == 0
        assert [(each['tenant'], each['waiting']) for each in inspect('qos_tenants', top=1)] == [('acme', 3)]
        assert inspect('qos_tenants', match='g/*')[0]['tenant'] == ['g', 'x']
        assert "did you mean 'waiting'" in inspect('qos_tenants', sort='wating')['error']
        assert inspect('qos_why', subject='acme-2')['facts']['behind'] == 2
        assert inspect('qos_why', subject='nobody')['state'] == 'unknown'

        assert order('qos_pause', tenant='acme') == {'ok': "tenant 'acme' is paused"}
        assert inspect('qos_why', subject='acme')['state'] == 'paused' and control.tenant('acme')['paused']
        order('qos_resume', tenant='acme')
        order('qos_set', of='tenant', name=['g', 'x'], options={'weight': 3})
        assert control.tenant(('g', 'x'))['weight'] == 3
        assert inspect('qos_options', of='tenant', name=['g', 'x'])['weight'] == 3
        assert 'weigth' in order('qos_set', of='tenant', name='acme', options={'weigth': 3})['error']
        assert 'has no options' in order('qos_set', of='tenants', name='acme')['error']

        # As an operator types it.
        reply = json.loads(celery(server, 'control', '--json', '-t', '2', 'qos_set', 'tenant', 'acme', 'weight=2.5',
                                  'rate=1000/s', 'max_in_flight=unlimited', 'paused=false'))
        assert reply[0][worker.name]['options']['weight'] == 2.5 and control.tenant('acme')['rate'] == 1000
        reply = json.loads(celery(server, 'inspect', '--json', '-t', '2', 'qos_tenants', '2', 'tenant'))
        assert [each['tenant'] for each in reply[worker.name]] == ['acme', 'busy']
        order('qos_set', of='egress', options=['idle_timeout=7'])
        assert control.egress()['idle_timeout'] == 7
        ledger.let_end('held')
        ledger.until('end', 5)


def test_a_command_does_not_keep_the_worker_for_long(server, store, monkeypatch):
    monkeypatch.setattr(remote, 'BUDGET', 0.0)
    ledger = Ledger(server)
    ledger.send('a', 'x')
    state = type('State', (), {'app': ledger.app})()
    assert 'ask with:  celery qos tenants' in remote.qos_tenants(state)['error']
    assert 'ask with:  celery qos why' in remote.qos_why(state, 'some-task')['error']


def test_nor_does_a_change_that_many_wait_for(server, store, monkeypatch):
    monkeypatch.setattr(remote, 'BUDGET', 0.0)
    control = celery_qos.control(Ledger(server).app)
    store.declare('celery')
    store.enqueue_all([Publication('celery', f'tenant {number}', 0, {'tenant': f'tenant {number}'})
                       for number in range(400)])
    state = type('State', (), {'app': control.app})()
    assert remote.qos_set(state, 'queue', '-', ['algorithm=rr'])['options']['algorithm'] == 'rr'
    assert 'try again' in remote.qos_pause(state, 'tenant 7')['error'] and not control.tenant('tenant 7')['paused']
    while store.sweep('celery', 60, 'sweeper').moved:
        pass
    assert 'ok' in remote.qos_pause(state, 'tenant 7') and control.tenant('tenant 7')['paused']
