"""``celery qos web`` over HTTP: what it tells, what it refuses, and what it costs Redis."""
from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from urllib.request import urlopen

import pytest

from celery_qos.embedded import EmbeddedRedis

from .ports import free_port
from .web import TOKEN, bury, fill, serve
from .workers import ROOT, environment

pytestmark = pytest.mark.once

PASSWORD = 'pass-5f0c2e'


@pytest.fixture
def web(server):
    with serve(server.url('qos'), TOKEN) as web:
        yield web


@pytest.fixture
def read_only(server):
    with serve(server.url('qos')) as web:
        yield web


class TestReading:
    def test_the_page_and_its_two_files(self, read_only):
        for path, kind in ('/', 'text/html'), ('/style.css', 'text/css'), ('/page.js', 'text/javascript'):
            answer = read_only.get(path)
            assert (answer.status, answer.headers['Content-Type']) == (200, f'{kind}; charset=utf-8')
            assert "default-src 'none'" in answer.headers['Content-Security-Policy']
            assert answer.headers['X-Content-Type-Options'] == 'nosniff'
        assert read_only.ask('HEAD', '/').body == b''

    def test_a_queue(self, read_only, store):
        store.lease('celery', 'worker', 2, 60)
        fill(store, 'acme', tasks=5)
        status = read_only.get('/api/status').data
        assert (status['slots'], status['egress'], status['waiting'], status['idle_slots']) == (2, 2, 3, 0)
        tenant, = read_only.get('/api/tenants').data['tenants']
        assert (tenant['tenant'], tenant['waiting'], tenant['in_flight']) == ('acme', 3, 2)
        assert read_only.get('/api/lanes').data == [tenant]
        assert '3 tasks wait' in read_only.get('/api/tenant', tenant='"acme"').data['why']
        assert 'acme' in read_only.get('/api/why', subject='acme-4').data['sentence']
        assert read_only.get('/api/settings').data['queue']['algorithm'] == 'wrr'

    def test_a_task_of_nobody_and_a_tuple(self, read_only, store):
        fill(store, '', 'acme\x1falice')
        found = [each['tenant'] for each in read_only.get('/api/tenants').data['tenants']]
        assert '' in found and ['acme', 'alice'] in found
        assert read_only.get('/api/tenant', tenant='["acme", "alice"]').data['options']['weight'] == 1

    def test_some_of_many_tenants(self, read_only, store):
        fill(store, *(f'tenant-{number:04}' for number in range(1000)))
        assert len(read_only.get('/api/tenants', top=20).data['tenants']) == 20
        found, = read_only.get('/api/tenants', match='0999').data['tenants']
        assert found['tenant'] == 'tenant-0999'
        assert len(read_only.get('/api/tenants', match='tenant-099?').data['tenants']) == 10
        assert read_only.get('/api/tenants', match='[').data['tenants'] == []

    def test_ten_browsers_cost_as_much_as_one(self, read_only, redis, store):
        fill(store, *'abc')

        def commands() -> int:
            return redis.info('stats')['total_commands_processed']

        read_only.get('/api/tenants')       # connects
        before = commands()
        read_only.get('/api/tenants', sort='wait')
        one = commands() - before
        with ThreadPoolExecutor(10) as browsers:
            before = commands()
            answers = list(browsers.map(lambda _: read_only.get('/api/tenants', sort='rate').body, range(10)))
        assert len(set(answers)) == 1
        assert commands() - before <= one + 3

    @pytest.mark.parametrize('path, query, status, text', [
        ('status', {'queue': 'other'}, 404, "'other' is not one of 'celery'"),
        ('tenants', {'sort': 'weight'}, 400, 'is not one of waiting'),
        ('tenants', {'top': '100000'}, 400, 'is not a whole number from 1 to 200'),
        ('tenant', {'tenant': '{"a": 1}'}, 400, 'a dict cannot be one'),
        ('tenant', {'tenant': 'acme'}, 400, 'is not JSON'),
        ('dead', {'before': '- +'}, 400, 'is not that of a dead letter'),
        ('nothing', {}, 404, 'there is no such thing')])
    def test_what_cannot_be_answered(self, read_only, path, query, status, text):
        answer = read_only.get(f'/api/{path}', **query)
        assert answer.status == status and text in answer.data['error']


@pytest.mark.once
class TestChanging:
    def test_read_only(self, read_only):
        for token in '', TOKEN:
            answer = read_only.post('/api/tenant', {'tenant': 'acme', 'options': {'weight': 3}}, token)
            assert answer.status == 403 and 'read-only: start it with --token' in answer.data['error']
        assert read_only.control.tenant('acme')['weight'] == 1

    def test_only_with_the_token_as_a_bearer(self, web):
        change = {'tenant': 'acme', 'options': {'weight': 3}}
        for headers in {}, {'Authorization': f'Basic {TOKEN}'}, {'Authorization': f'Bearer {TOKEN}x'}, \
                {'Authorization': 'Bearer \xe9'}, {'Cookie': f'token={TOKEN}'}:
            assert web.post(f'/api/tenant?token={TOKEN}', change, headers=headers).status == 403
        assert web.get('/api/unlock').status == 403 and web.get('/api/unlock', TOKEN).status == 200
        assert web.control.tenant('acme')['weight'] == 1

    def test_a_tenant(self, web):
        change = {'weight': 3, 'paused': True, 'rate': '10/s', 'max_in_flight': 2}
        assert web.post('/api/tenant', {'tenant': ['acme', 'alice'], 'options': change}, TOKEN).status == 200
        assert {**web.control.tenant(('acme', 'alice')), 'rate': '10/s'}.items() >= change.items()
        lifted = {'weight': None, 'max_in_flight': 'unlimited'}
        web.post('/api/tenant', {'tenant': ['acme', 'alice'], 'options': lifted}, TOKEN)
        assert web.control.tenant(('acme', 'alice'))['weight'] == 1
        assert web.control.tenant(('acme', 'alice'))['max_in_flight'] is None

    @pytest.mark.parametrize('change, text', [
        ({'options': {'weight': 3}}, 'tenant: is missing'),
        ({'tenant': 'acme', 'options': {'weight': -1}}, 'weight: -1 is not a number above 0'),
        ({'tenant': 'acme', 'options': {'on_full': 'reject'}}, 'cannot be changed here'),
        ({'tenant': 'acme', 'options': []}, 'is not an object'),
        ({'tenant': 'acme\n', 'options': {'weight': 1}}, 'not printable'),
        ([], 'not a JSON object'), (b'{', 'not JSON'), (b'[' * 50_000, '')])
    def test_what_is_no_change(self, web, change, text):
        answer = web.post('/api/tenant', change, TOKEN)
        assert answer.status in (400, 500) and text in answer.data['error']

    def test_a_form_of_another_site_is_no_request(self, web):
        body = json.dumps({'tenant': 'acme', 'options': {'paused': True}}).encode()
        for kind in 'text/plain', 'application/x-www-form-urlencoded':
            assert web.post('/api/tenant', body, TOKEN, {'Content-Type': kind}).status == 415
        assert web.post('/api/tenant', b' ' * 100_000, TOKEN).status == 413
        preflight = web.ask('OPTIONS', '/api/tenant', headers={'Origin': 'http://evil.example'})
        assert preflight.status == 501
        assert not any(name.lower().startswith('access-control') for name in preflight.headers)

    def test_dead_letters(self, web, store, read_only):
        bury(store, 'acme', 3)
        found = web.get('/api/dead').data
        assert found['total'] == 3 and not found['more']
        letters = found['letters']
        assert [each['task_id'] for each in letters] == ['acme-2', 'acme-1', 'acme-0']
        assert letters[0]['reason'] == 'delivered 5 times' and 'body' not in letters[0]
        newest, older, oldest = (each['letter_id'] for each in letters)
        assert [each['letter_id'] for each in web.get('/api/dead', before=older).data['letters']] == [oldest]
        assert web.get('/api/dead/letter', id=newest).status == 403
        assert read_only.get('/api/dead/letter', TOKEN, id=newest).status == 403
        assert web.get('/api/dead/letter', TOKEN, id=newest).data['body'] == 'of acme'
        assert web.get('/api/dead/letter', TOKEN, id='1-1').status == 404
        assert web.post('/api/dead/requeue', {'ids': [newest]}).status == 403
        assert web.post('/api/dead/requeue', {'ids': [newest]}, TOKEN).data == {'done': 1}
        assert web.post('/api/dead/delete', {'ids': [newest, older]}, TOKEN).data == {'done': 1}
        assert web.post('/api/dead/delete', {'ids': ['no id']}, TOKEN).status == 400
        assert web.get('/api/dead').data['total'] == 1
        assert web.get('/api/status').data['waiting'] == 1


@pytest.mark.once
class TestWhoMayAsk:
    @pytest.mark.parametrize('host', [
        'evil.example', 'evil.example:8910', 'localhost.evil.example', '', '127.0.0.1@evil'])
    def test_not_by_a_name_of_somebody_else(self, web, host):
        for answer in web.get('/', headers={'Host': host}), web.get('/api/about', headers={'Host': host}), \
                web.post('/api/tenant', {'tenant': 'a', 'options': {'weight': 2}}, TOKEN, {'Host': host}):
            assert answer.status == 421 and b'Host header' in answer.body

    def test_by_an_address_or_a_name_of_its_own(self, server):
        with serve(server.url('qos'), names=['qos.example.com']) as web:
            for host in '127.0.0.1', 'localhost:9000', '[::1]:8910', '10.1.2.3:80', 'QOS.example.com':
                assert web.get('/api/about', headers={'Host': host}).status == 200

    @pytest.mark.parametrize('path', [
        '/../server.py', '/static/../api.py', '/..%2fapi.py', '//etc/passwd', '/%2e%2e/server.py', '/style.css/..',
        '/static/page.js', '/api/../index.html'])
    def test_no_other_files(self, read_only, path):
        assert read_only.get(path).status == 404


@pytest.mark.once
def test_redis_goes_away_and_no_reply_has_the_password():
    port, answers = free_port(), []
    redis = EmbeddedRedis(None, '--port', str(port), '--bind', '127.0.0.1')

    def start(password: str) -> None:
        redis.start().client().config_set('requirepass', password)

    try:
        start(PASSWORD)
        with serve(f'qos://:{PASSWORD}@127.0.0.1:{port}/0', TOKEN) as web:
            def asked() -> set[int]:
                web.server.api.forget()
                found = [web.get(f'/api/{path}') for path in (
                    'about', 'status', 'tenants', 'lanes', 'settings', 'dead', 'why?subject=x', 'tenant?tenant="a"')]
                answers.extend(found)
                return {each.status for each in found[1:]}

            assert asked() == {200}
            redis.kill()
            begun = monotonic()
            assert asked() == {503}
            assert monotonic() - begun < 5, 'a page that waits cannot say that Redis is away'
            assert 'Redis does not answer' in answers[-1].data['error']
            start('another')
            assert asked() == {503}
            redis.kill()
            start(PASSWORD)
            assert asked() == {200}
    finally:
        redis.stop()
    assert not [each for each in answers if PASSWORD.encode() in each.body or PASSWORD in str(each.headers)]


@pytest.mark.once
def test_the_command(server):
    def command(*options: str) -> list[str]:
        return [sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.basic', 'qos', 'web', *options]

    env = environment(server.url('qos'))
    process = subprocess.Popen(command('--port', '0', '--json'), cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        shown = ''
        while not shown.endswith('}\n'):
            line = process.stdout.readline()
            assert line, f'it ended: {shown}'
            shown += line
        started = json.loads(shown)
        assert started['url'].startswith('http://127.0.0.1:') and started['writable'] is False
        with urlopen(started['url'] + 'api/about') as answer:
            assert json.load(answer)['queues'] == ['celery']
        port = started['url'].rpartition(':')[2].strip('/')
        taken = subprocess.run(command('--port', port), cwd=ROOT, env=env, capture_output=True, text=True)
        assert taken.returncode == 3 and f'cannot listen on 127.0.0.1, port {port}: Address already' in taken.stderr
    finally:
        process.terminate()
        process.wait()
    short = subprocess.run(command('--token', 'secret'), cwd=ROOT, env=env, capture_output=True, text=True)
    assert short.returncode == 2 and 'token: has 6 characters, needs 16' in short.stderr
