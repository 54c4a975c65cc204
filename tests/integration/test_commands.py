"""``celery -A proj qos ...``: each command through Celery's own program, on a real server, with real workers."""
from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from types import ModuleType
from typing import Any, NamedTuple, Optional

import pytest
from celery import Celery
from celery.bin.celery import celery as program
from click.testing import CliRunner
from kombu import pools

import celery_qos
from celery_qos import QoS, SubQueue, Tenant
from celery_qos.commands import COMMANDS
from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .ledger import Ledger
from .workers import ROOT, environment

pytestmark = pytest.mark.once

GOLD_AND_FREE = [SubQueue('gold', capacity=1000, weight=3), SubQueue('free', capacity=2000, weight=1)]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch) -> Callable[..., Ran]:
    """Runs ``celery -A <the app> qos <words>``; with ``data=True`` gives the JSON of its answer."""
    def run(app: Celery, *words: str, input: Optional[str] = None, code: Optional[int] = None) -> Ran:
        module: Any = ModuleType('commands_app')
        module.app = app
        monkeypatch.setitem(sys.modules, 'commands_app', module)
        separate = {'mix_stderr': False} if 'mix_stderr' in signature(CliRunner).parameters else {}
        result = CliRunner(**separate).invoke(program, ['-A', 'commands_app', 'qos', *words], input=input)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        ran = Ran(result.exit_code, result.stdout, result.stderr)
        assert code is None or ran.code == code, ran
        return ran
    return run


def app_on(server, qos: QoS | None = None, url: str = '', **options: Any) -> Celery:
    pools.reset()
    app = Celery('commands', broker=url or server.url('qos'), set_as_current=False)
    app.conf.broker_transport_options = {**({'qos': qos} if qos else {}), **options}
    return app


def publish(app: Celery, tenant: Any = 'acme', times: int = 1, **options: Any) -> list[str]:
    return [app.send_task('job', tenant=tenant, **options).id for _ in range(times)]


class TestSet:
    def test_a_tenant(self, server, run):
        app = app_on(server, QoS(tenants={'acme': Tenant(2, capacity=9)}))
        publish(app)
        data = run(app, 'set', 'tenant', 'acme', 'weight=3', 'rate=100/m', 'capacity=unlimited', '--json', code=0).data
        assert data['set_at_run_time'] == ['capacity', 'rate', 'weight']
        assert data['options'] == {**celery_qos.control(app).tenant('acme'), 'rate': 1.666667}
        assert (data['options']['weight'], data['options']['capacity']) == (3, None)
        shown = run(app, 'set', 'tenant', 'acme', 'weight=none', code=0).out.splitlines()
        assert shown[0] == 'tenant acme, queue celery'
        assert 'weight         2           config' in shown
        assert 'rate           100/m       run time' in shown
        run(app, 'set', 'default-tenant', 'burst=3', code=0)
        shown = run(app, 'set', 'tenant', 'globex').out.splitlines()
        assert {'burst          3           default tenant', 'weight         1           default'} <= {*shown}

    def test_a_tenant_inside_another_the_empty_one_and_the_default(self, server, run):
        app, control = app_on(server), celery_qos.control(app_on(server))
        run(app, 'set', 'tenant', 'alice', '--inside', 'acme', 'weight=3', code=0)
        run(app, 'set', 'tenant', '', 'weight=4', code=0)
        run(app, 'set', 'default-tenant', 'weight=5', code=0)
        assert [control.tenant(key)['weight'] for key in (('acme', 'alice'), '', 'b')] == [3, 4, 5]

    def test_sub_queues_the_queue_and_egress(self, server, run):
        app = app_on(server, QoS(queues=GOLD_AND_FREE))
        publish(app)
        data = run(app, 'set', 'sub-queue', 'gold', 'weight=5', 'capacity=10', '--json').data
        assert (data['options']['egress_weight'], data['options']['capacity']) == (5, 10)
        assert data['set_at_run_time'] == ['capacity', 'egress_weight', 'ingress_weight']
        assert 'sub_queue      free' in run(app, 'set', 'tenant', 'acme', 'sub_queue=free').out
        assert run(app, 'set', 'queue', 'algorithm=dwrr', '--json').data['options']['algorithm'] == 'dwrr'
        assert run(app, 'set', 'egress', 'capacity=20', '--json').data['options']['capacity'] == 20
        shown = run(app, 'set', 'queue', '--json').data
        assert shown['set_at_run_time'] == ['algorithm'] and 'capacity' not in shown['options']

    def test_list(self, server, run):
        app = app_on(server, QoS(queues=GOLD_AND_FREE))
        ran = run(app, 'set', '--list', code=1)
        assert (ran.out, ran.err) == ('', 'none\n')
        publish(app)
        for words in (['tenant', 'acme', 'paused=yes'], ['egress', 'capacity=20'],
                      ['tenant', 'alice', '--inside', 'acme', 'rate=100/m', 'weight=2'],
                      ['sub-queue', 'gold', 'weight=5'], ['queue', 'algorithm=dwrr'], ['default-tenant', 'burst=3']):
            run(app, 'set', *words, code=0)
        assert [line.split() for line in run(app, 'set', 'list', code=0).out.splitlines()[1:]] == [
            ['queue', '-', 'algorithm=dwrr'], ['egress', '-', 'capacity=20'], ['default-tenant', '-', 'burst=3'],
            ['sub-queue', 'gold', 'egress_weight=5', 'ingress_weight=5'], ['tenant', 'acme', 'paused=yes'],
            ['tenant', 'acme/alice', 'rate=100/m', 'weight=2']]
        ran = run(app, 'set', '--json', '--list', '--top', '5', code=0)
        assert ran.data[4] == {'of': 'tenant', 'name': 'acme', 'options': {'paused': True}}
        assert len(ran.data) == 5 and 'there are more' in ran.err

    @pytest.mark.parametrize('words, said', [
        (['tenant', 'acme', 'wieght=3'], "did you mean 'weight'"), (['tenant', 'acme', 'weight'], 'is not NAME=VALUE'),
        (['tenant', 'acme', 'weight=1', 'weight=2'], 'given twice'), (['tenant', 'a\nb', 'weight=1'], 'printable'),
        (['tenant', 'acme', 'sub_queue=gold'], "'gold' is unknown"), (['sub-queue', 'gold', 'weight=1'], 'has none'),
        (['queue', 'algorithm=fifo', '-Q', 'celary'], "queue: 'celary' is unknown"), (['qeue'], 'queue'),
        (['tenant', 'acme', 'paused=maybe'], "paused: 'maybe' is neither yes nor no")])
    def test_what_cannot_be_is_refused(self, server, run, words, said):
        assert said in run(app_on(server), 'set', *words, code=2).err
        assert not celery_qos.control(app_on(server)).set_at_run_time('tenant', 'acme')


class TestPause:
    def test_a_tenant(self, server, run):
        app = app_on(server)
        publish(app, times=3)
        publish(app, ('acme', 'alice'))
        ran = run(app, 'pause', 'acme', code=0)
        assert (ran.out, ran.err) == ('tenant acme is paused: 4 tasks wait until it is resumed\n', '')
        assert 'tenant acne was not seen on queue celery' in run(app, 'pause', 'acne', code=0).err
        assert run(app, 'pause', 'acne', code=0).err == ''
        assert celery_qos.control(app).tenant('acme')['paused'] is True
        assert run(app, 'resume', 'acme', '--json').data == {
            'queue': 'celery', 'tenant': 'acme', 'paused': False, 'waiting': 4}
        assert celery_qos.control(app).tenant('acme')['paused'] is False

    def test_a_sub_queue(self, server, run):
        app = app_on(server, QoS(queues=GOLD_AND_FREE))
        publish(app, sub_queue='gold')
        assert run(app, 'pause', '--sub-queue', 'gold', code=0).out.startswith('sub-queue gold is paused: 1 task waits')
        assert celery_qos.control(app).sub_queue('gold')['paused'] is True
        assert 'name a TENANT' in run(app, 'pause', code=2).err
        assert 'name the tenant too' in run(app, 'resume', '--inside', 'acme', code=2).err


class TestPurge:
    def test_one_tenant(self, server, run):
        app = app_on(server)
        publish(app, times=3)
        publish(app, ('acme', 'alice'), times=2)
        publish(app, 'globex')
        ran = run(app, 'purge', 'acme', input='n\n', code=1)
        assert 'Delete 5 tasks of tenant acme?' in ran.err and 'nothing was done' in ran.err
        assert 'nobody to ask: give --yes' in run(app, 'purge', 'acme', input='', code=2).err
        # Click before 8.2 echoes what was typed.
        ran = run(app, 'purge', 'alice', '--inside', 'acme', input='y\n', code=0)
        assert ran.out.endswith('tenant acme/alice: 2 tasks deleted\n')
        assert run(app, 'purge', 'acme', '--yes', '--json', code=0).data == {
            'queue': 'celery', 'tenant': 'acme', 'deleted': 3}
        run(app, 'purge', 'acme', code=1)
        assert celery_qos.control(app).waiting('globex') == 1

    def test_with_its_delayed_tasks_or_the_whole_queue(self, server, run):
        app = app_on(server)
        for tenant in 'acme', ('acme', 'alice'), 'acmeous':
            publish(app, tenant, countdown=600)
        assert run(app, 'purge', 'acme', '--delayed', '--yes', '--json').data['cancelled'] == 2
        publish(app, 'globex', 2)
        assert 'Delete all 3 tasks' in run(app, 'purge', '--all', input='\n', code=1).err
        assert run(app, 'purge', '--all', '--yes', code=0).out == 'queue celery: 3 tasks deleted\n'
        assert 'name a TENANT, or give --all' in run(app, 'purge', '--all', 'acme', code=2).err


class TestDelayed:
    def test_list(self, server, run):
        app = app_on(server)
        first, second = publish(app, 'acme', countdown=600) + publish(app, ('acme', 'alice'), countdown=900)
        publish(app, 'globex', times=3, countdown=1000)
        lines = run(app, 'delayed', 'list', '--tenant', 'acme', code=0).out.splitlines()
        assert [line.split()[0] for line in lines] == ['task', first, second]
        assert [each['task_id'] for each in run(app, 'delayed', 'list', '--tenant', 'alice', '--inside', 'acme',
                                                '--json').data] == [second]
        ran = run(app, 'delayed', 'list', '--top', '2', '--json')
        assert len(ran.data) == 2 and 'there are more' in ran.err
        assert len(run(app, 'delayed', 'list', '--all', '--task', 'j*', '--json').data) == 5
        assert run(app, 'delayed', 'list', '--task', 'other', '--json', code=1).data == []

    def test_cancel(self, server, run):
        app = app_on(server)
        ids = publish(app, 'acme', 150, countdown=600)
        assert run(app, 'delayed', 'cancel', ids[0], 'x', '--json', code=1).data == {
            'queue': 'celery', 'cancelled': [ids[0]], 'not_found': ['x']}
        publish(app, 'globex', countdown=600)
        assert run(app, 'delayed', 'cancel', '--tenant', 'acme', '--yes', code=0).out == '149 tasks cancelled\n'
        assert run(app, 'delayed', 'cancel', '--all', input='y\n', code=0).out.endswith('1 task cancelled\n')
        run(app, 'delayed', 'cancel', '--all', '--yes', code=1)
        run(app, 'delayed', 'cancel', 'x', '--all', code=2)


class TestDead:
    @pytest.fixture
    def app(self, server) -> Celery:
        """Of three dead letters of acme and one of globex, which found no room."""
        app = app_on(server, QoS(default_tenant=Tenant(capacity=1, on_full='dead-letter')))
        publish(app, 'acme', 4)
        publish(app, 'globex', 2)
        return app

    def test_list_and_show(self, app, run):
        letters = run(app, 'dead', 'list', '--json', code=0).data
        assert [each['tenant'] for each in letters] == ['acme'] * 3 + ['globex']
        lines = run(app, 'dead', 'list', '--reason', 'full*', '--tenant', 'globex', code=0).out.splitlines()
        assert len(lines) == 2 and letters[3]['letter_id'] in lines[1] and letters[3]['task_id'] in lines[1]
        run(app, 'dead', 'list', '--reason', 'rejected', code=1)
        shown, = run(app, 'dead', 'show', letters[0]['letter_id'], '--json', code=0).data
        assert shown['headers']['id'] == letters[0]['task_id'] and shown['body']
        assert f'task id     {letters[0]["task_id"]}' in run(app, 'dead', 'show', letters[0]['letter_id']).out
        assert 'no dead letter has the id 1-1' in run(app, 'dead', 'show', '1-1', code=1).err
        run(app, 'dead', 'show', 'acme', code=2)

    def test_requeue_and_delete(self, app, run):
        ids = [each['letter_id'] for each in run(app, 'dead', 'list', '--json').data]
        celery_qos.control(app).set_default_tenant(capacity=100)
        assert run(app, 'dead', 'requeue', ids[0], '1-1', '--json', code=1).data == {
            'queue': 'celery', 'requeued': 1, 'not_found': ['1-1']}
        assert run(app, 'dead', 'requeue', '--tenant', 'acme', '--yes', code=0).out == '2 dead letters requeued\n'
        assert celery_qos.control(app).waiting('acme') == 4
        assert run(app, 'dead', 'delete', '--all', input='y\n', code=0).out.endswith('1 dead letter deleted\n')
        run(app, 'dead', 'delete', '--all', '--yes', code=1)
        run(app, 'dead', 'delete', code=2)

    def test_export(self, app, run, tmp_path):
        lines = run(app, 'dead', 'export', '--tenant', 'acme', code=0).out.splitlines()
        assert [json.loads(line)['tenant'] for line in lines] == ['acme'] * 3
        file = tmp_path / 'dead.jsonl'
        assert run(app, 'dead', 'export', '-o', str(file), '--json', code=0).data['exported'] == 4
        assert len(file.read_text().splitlines()) == 4
        assert 'No such file' in run(app, 'dead', 'export', '-o', str(tmp_path / 'no' / 'x'), code=2).err

    @pytest.mark.parametrize('written, left', [(0, 4), (1.5, 3), (2, 2), (3.9, 1), (4, 0)])
    def test_a_killed_export_is_resumed(self, app, run, tmp_path, written, left):
        file = tmp_path / 'dead.jsonl'
        run(app, 'dead', 'export', '-o', str(file), code=0)
        lines = file.read_text().splitlines(keepends=True)
        file.write_text(''.join(lines)[:int(sum(map(len, lines[:int(written)])) + written % 1 * len(lines[-1]))])
        again = run(app, 'dead', 'export', '-o', str(file), '--resume', '--json', code=0 if left else 1)
        assert again.data['exported'] == left
        assert file.read_text() == ''.join(lines)

    def test_what_cannot_be_resumed_is_left_as_it_is(self, app, run, tmp_path):
        file = tmp_path / 'dead.jsonl'
        of_another = '{"queue": "other", "letter_id": "1-0"}\n'
        for text in '{"letter_id": "1-0"}\n', of_another, f'{"[" * 100_000}\n', '[]\n', 'notes\n', '', '{"queue": "o':
            file.write_text(text + 'more')
            assert str(file) in run(app, 'dead', 'export', '-o', str(file), '--resume', code=2).err
            assert file.read_text() == text + 'more'
        assert '--output' in run(app, 'dead', 'export', '--resume', code=2).err


def test_a_busy_queue_at_a_glance(server, run):
    """One worker with one slot: status, tenants, top and why agree about it."""
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    with ledger.worker('threads', 1):
        for mark in range(3):
            ledger.send('globex', f'done {mark}')
        ledger.until('end', 3)
        ledger.send('acme', 'now', task='held_early')
        ledger.until('start', 4)
        ledger.send('acme', 'next')
        for _ in range(3):
            ledger.send('acme')
        ledger.send('acme', countdown=600)
        until(lambda: run(ledger.app, 'status', '--json').data[0]['waits']['count'] >= 3)

        status, = run(ledger.app, 'status', '--json', code=0).data
        assert (status['slots'], status['delayed'], status['dead'], len(status['workers'])) == (1, 1, 0, 1)
        assert status['egress'] + status['waiting'] in (4, 5)
        text = run(ledger.app, 'status', code=0).out
        assert text.startswith('queue celery: wrr, 1 slot, 1 in egress') and status['workers'][0]['name'] in text

        tenants = run(ledger.app, 'tenants', '--json', code=0).data
        assert [(each['tenant'], each['waiting']) for each in tenants][0] == ('acme', status['waiting'])
        globex, = run(ledger.app, 'tenants', '--match', 'glob*', '--json').data
        assert globex['waits']['count'] == 3 and globex['waits']['p99'] is not None
        ran = run(ledger.app, 'tenants', '--sort', 'tenant', '--top', '1')
        assert [line.split()[0] for line in ran.out.splitlines()] == ['tenant', 'acme']
        assert ran.err == 'there are more: --all lists all, --top N so many\n'
        assert [run(ledger.app, 'tenants', '--sort', sort, '--limit', '1').out.splitlines()[1].split()[0]
                for sort in ('oldest', 'wait')] == ['acme'] * 2
        assert run(ledger.app, 'tenants', '--match', 'nobody', code=1).err == 'none\n'
        assert '--limit' not in run(ledger.app, 'tenants', '--help').out

        assert run(ledger.app, 'top', '--json', code=0).data['tenants'][0]['tenant'] == 'acme'
        lines = run(ledger.app, 'top', '--json', '--count', '2', '--interval', '0.1', code=0).out.splitlines()
        assert [json.loads(line)['status']['queue'] for line in lines] == ['celery'] * 2
        pictures = run(ledger.app, 'top', '--count', '2', '--interval', '0.1', code=0).out
        assert pictures.count('queue celery: wrr') == pictures.count('\nacme ') == 2

        run(ledger.app, 'pause', 'acme')
        assert 'is paused' in run(ledger.app, 'why', 'acme', code=0).out
        assert run(ledger.app, 'why', 'acme', '--json').data['state'] == 'paused'
        delayed, = run(ledger.app, 'delayed', 'list', '--json').data
        assert run(ledger.app, 'why', delayed['task_id'], '--json', code=0).data['state'] == 'delayed'
        assert run(ledger.app, 'why', 'nobody', '--tenant', code=1).out.startswith("tenant 'nobody'")
        assert run(ledger.app, 'why', '', code=1).out.startswith("tenant ''")
        run(ledger.app, 'why', 'a', '--inside', 'b', '--task', code=2)
        ledger.let_end('now')


class TestTrouble:
    def test_redis_is_down(self, server, run):
        app = app_on(server, url='qos+socket:///nowhere/redis.sock', connect_retries_timeout=0.1, interval_start=0)
        ran = run(app, 'status', code=3)
        assert ran.err.startswith('Error: Redis at qos+socket:///nowhere/redis.sock does not answer: ')
        assert ran.err.endswith('is it running? The address is broker_url of the app\n') and ran.err.count('\n') == 1

    def test_another_broker(self, server, run):
        app = app_on(server, url='redis://:secret@localhost:1/0')
        ran = run(app, 'tenants', code=2)
        assert "set broker_url = 'qos://...'" in ran.err and 'secret' not in ran.err
        run(app_on(server, url='nonsense://localhost'), 'tenants', code=2)

    def test_a_user_who_may_look_and_not_touch(self, server, run):
        words = (ROOT / 'docs' / 'security.md').read_text().split('<!-- acl monitor -->\n```\n')[1].split('```')[0]
        server.client().execute_command(*words.split())
        try:
            publish(app_on(server), times=2)
            app = app_on(server, url=f'qos+socket://monitor:password@{server.socket}?virtual_host=0')
            assert run(app, 'status', '--json', code=0).data[0]['waiting'] == 2
            assert run(app, 'tenants', '--json', code=0).data[0]['waiting'] == 2
            assert run(app, 'why', 'acme', '--json', code=0).data['waiting'] == 2
            for words in ['set', 'tenant', 'acme', 'weight=3'], ['purge', 'acme', '--yes']:
                err = run(app, *words, code=3).err
                assert err.startswith('Error: Redis refuses: ') and 'whose user may do this' in err
        finally:
            server.client().execute_command('ACL', 'DELUSER', 'monitor')
            pools.reset()

    def test_names_from_messages_are_no_commands_for_a_terminal(self, server, run):
        app = app_on(server)
        app.send_task('job\x1b[31m', tenant='[bold]acme', countdown=600)
        out = run(app, 'delayed', 'list', code=0).out
        assert '\x1b' not in out and '[bold]acme' in out

    @pytest.mark.parametrize('name', COMMANDS)
    def test_each_command_has_an_example_and_json(self, server, run, name):
        text = run(app_on(server), name, '--help', code=0).out
        assert f'celery -A proj qos {name}' in text
        assert '--json' in text or 'Commands:' in text


@contextmanager
def process(server, *words: str, **kwargs: Any) -> Iterator[subprocess.Popen]:
    started = subprocess.Popen([sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.basic', 'qos', *words],
                               env={**environment(server.url('qos')), 'TERM': 'xterm'}, cwd=ROOT, text=True, **kwargs)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.mark.once
def test_interrupted_work_says_how_far_it_came_and_goes_on_when_run_again(server, redis, run):
    app = app_on(server)
    for number in range(30):
        publish(app, ('acme', str(number)))
    redis.execute_command('CLIENT', 'PAUSE', 30_000, 'WRITE')
    try:
        with process(server, 'purge', 'acme', '--yes', stderr=subprocess.PIPE, stdout=subprocess.PIPE) as purge:
            until(lambda: any('b' in each['flags'] and 'evalsha' in each['cmd'] for each in redis.client_list()))
            purge.send_signal(signal.SIGINT)
            redis.execute_command('CLIENT', 'UNPAUSE')
            out, err = purge.communicate(timeout=20)
    finally:
        redis.execute_command('CLIENT', 'UNPAUSE')
    left = celery_qos.control(app).waiting('acme')
    assert 0 < left < 30
    assert (purge.returncode, out) == (130, '')
    assert err == f'Error: interrupted: deleted {30 - left} of 30; run the same command again to go on\n'
    assert run(app, 'purge', 'acme', '--yes', '--json').data['deleted'] == left


@pytest.mark.once
def test_top_on_a_terminal_outlives_redis_and_ends_by_a_key():
    main, terminal = pty.openpty()
    os.set_blocking(main, False)
    shown = ''

    def sees(text: str) -> bool:
        nonlocal shown
        try:
            shown += os.read(main, 1_000_000).decode(errors='replace')
        except BlockingIOError:
            pass
        return text in shown

    with EmbeddedRedis() as server:
        publish(app_on(server), 'acme')
        with process(server, 'top', '--interval', '0.2', stdin=terminal, stdout=terminal, stderr=terminal) as top:
            until(lambda: sees('acme '))
            server.kill()
            until(lambda: sees('Redis does not answer, trying again'))
            server.start()
            shown = ''
            until(lambda: sees('0 tasks of 0 tenants'))
            os.write(main, b'q')
            assert top.wait(20) == 0
    os.close(main)
    os.close(terminal)
    pools.reset()
