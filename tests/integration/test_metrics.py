"""What the exporter says, to a real Prometheus too."""
from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from celery_qos import QoS, SubQueue, keys
from celery_qos.embedded import EmbeddedRedis
from celery_qos.metrics import METRICS, Collector
from celery_qos.store import Store

from ..lua.hand import Hand
from ..until import until
from .ledger import Ledger
from .ports import free_port
from .prometheus import Prometheus, needed
from .workers import ROOT, Worker, environment

pytestmark = pytest.mark.once

DASHBOARD = json.loads((ROOT / 'monitoring' / 'grafana-dashboard.json').read_text(encoding='utf-8'))


def samples(collector: Any) -> dict[tuple[str, ...], float]:
    """The name without prefix and the values of the labels, in the order of `METRICS`, to the value.

    The text is what Prometheus would be given, and no sample is in it twice.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    found: dict[tuple[str, ...], float] = {}
    for family in parse(generate_latest(registry).decode()):
        labels = METRICS[family.name.removeprefix('celery_qos_')].labels
        for sample in family.samples:
            key = sample.name.removeprefix('celery_qos_'), *(sample.labels[name] for name in labels), *(
                [sample.labels['le']] if 'le' in sample.labels else [])
            assert key not in found
            found[key] = sample.value
    return found


def collector(server: EmbeddedRedis, **options: Any) -> Collector:
    return Collector(Celery(broker=server.url('qos'), set_as_current=False), **options)


@pytest.fixture
def hand(store: Store) -> Hand:
    return Hand(store, 'celery')


def expressions(panels: list[dict[str, Any]]) -> list[str]:
    return [target['expr'] for panel in panels for target in panel.get('targets', ())]


@pytest.mark.once
def test_a_prometheus_scrapes_the_exporter_and_a_worker(server, tmp_path: Path):
    ledger = Ledger(server)
    port = free_port()
    env = {'QOS_TEST_LEDGER': server.socket, 'QOS_TEST_PORT': port,
           'QOS_TEST_CONF': '{"worker_prefetch_multiplier": 1}'}
    command = [sys.executable, '-m', 'celery', '-A', 'tests.integration.apps.metrics', 'qos', 'exporter',
               '--port', '0', '--tenants-every', '1', '--top', '1', '--json']
    exporter = subprocess.Popen(command, cwd=ROOT, env=environment(server.url('qos'), env=env), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with Worker(server, 'prefork', 1, 'tests.integration.apps.metrics', env=env):
            for number in range(3):
                ledger.send('acme', f'acme {number}')
            ledger.send('acme', 'holds', task='held_early')
            ledger.until('start', 4)
            for tenant in 'acme', 'acme', 'quiet':
                ledger.send(tenant, 'waits')
            ledger.send('late', countdown=600)
            url = json.loads(_read_json(exporter))['url']
            rules = ROOT / 'monitoring' / 'alerts.yml'
            targets = {'exporter': url.split('/')[2], 'worker': f'127.0.0.1:{port}'}
            with Prometheus(tmp_path, targets, [rules]) as prometheus:
                _check(prometheus)
    finally:
        exporter.terminate()
        _, log = exporter.communicate(timeout=20)
    assert exporter.returncode == 0 and 'Traceback' not in log, log


def _read_json(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    lines = iter(process.stdout.readline, '')
    text = ''
    for line in lines:
        text += line
        if line == '}\n':
            break
    return text


def _check(prometheus: Prometheus) -> None:
    for job in 'exporter', 'worker':
        def value(name: str, job: str = job, **labels: str) -> Any:
            texts = [f'{label}="{text}"' for label, text in {'job': job, **labels}.items()]
            found = prometheus.query(f'celery_qos_{name}{{{",".join(texts)}}}')
            return found[0][1] if len(found) == 1 else found

        until(lambda: value('deliveries_total') == 5, what=f'the waits of 5 tasks, from the {job}')
        assert value('up') == value('workers') == value('slots') == value('egress_tasks') == 1
        assert value('wait_seconds_count') == 5 and 0 < value('wait_seconds_sum') < 60
        assert value('wait_seconds_bucket', le='+Inf') == 5
        assert value('waiting_tasks') == 2
        assert value('delayed_tasks') == 1 and value('idle_slots') == 0
    until(lambda: prometheus.query('celery_qos_tenant_waiting_tasks{job="exporter",kind="other"}'))
    assert len(prometheus.query('celery_qos_tenant_waiting_tasks{job="exporter",kind="tenant"}')) == 1
    rules = prometheus.get('rules')['groups'][0]['rules']
    assert len(rules) > 10
    until(lambda: all(rule['health'] == 'ok' for rule in prometheus.get('rules')['groups'][0]['rules']))
    for expression in expressions(DASHBOARD['panels']):
        for variable, text in ('$queue', '.*'), ('$instance', '.*'), ('$__rate_interval', '1m'):
            expression = expression.replace(variable, text)
        prometheus.query(expression)        # one that is wrong is an HTTP error


def test_tenants_are_bounded(server, hand):
    hand.configure(QoS())
    for tenant, count in {'acme': 5, 'other': 4, 'a\x1fb': 3, 'a/b': 2, 'few': 1}.items():
        hand.put(tenant, times=count)
    # By hand, in what is no UTF-8.
    hand.redis.hset(keys.waiting(hand.ns), b':\xff"\\', 3)
    hand.redis.hincrby(keys.state(hand.ns), 'waiting', 3)
    hand.set_tenant('acme', weight=3)

    found = samples(collector(server, top=6))

    # Of tuples, what is before the last key has what is inside; the key a/b reads like the tuple.
    assert {key[3:]: value for key, value in found.items() if key[0] == 'tenant_waiting_tasks'} == {
        ('acme', 'tenant'): 5, ('other', 'tenant'): 4, ('a', 'tenant'): 3, ('a/b', 'tenant'): 3, ('?"\\', 'tenant'): 3,
        ('other', 'other'): 3}
    assert found['waiting_tasks', 'celery', ''] == 18
    assert found['tenant_weight', 'celery', '', 'acme', 'tenant'] == 3
    assert 0 < found['tenant_oldest_wait_seconds', 'celery', '', 'acme', 'tenant'] < 60
    assert 0 < found['oldest_wait_seconds', 'celery'] < 60
    assert not [key for key in samples(collector(server, top=0)) if 'tenant_' in key[0]]


def test_the_oldest_wait_is_of_who_is_not_paused(server, hand):
    hand.configure(QoS(queues=[SubQueue('x', 9, 1), SubQueue('y', 9, 1, paused=True)]))
    for tenant in 'lazy', 'team\x1falice':
        hand.put(tenant, sub_queue='x')
    hand.put('z', sub_queue='y')
    for tenant in 'lazy', 'team':
        hand.set_tenant(tenant, paused=True)
    assert samples(collector(server))['oldest_wait_seconds', 'celery'] == 0
    assert samples(collector(server))['tenant_oldest_wait_seconds', 'celery', 'x', 'lazy', 'tenant'] > 0
    hand.set_tenant('team', paused=False)
    assert samples(collector(server, top=1))['oldest_wait_seconds', 'celery'] > 0


def test_sub_queues(server, hand):
    hand.configure(QoS(queues=[SubQueue('x', 2, 3, on_full='dead-letter'), SubQueue('y', 20, 1, paused=True)]))
    hand.put('a', times=3, sub_queue='x')
    hand.put('b', sub_queue='y')
    hand.hire(slots=1)
    delivery, = hand.read()
    hand.store.bury('celery', [delivery.entry_id], 'rejected')
    hand.store.note_waits('celery', {(keys.ROOT.encode(), 9): 2, (b'x', 9): 2, (keys.ROOT.encode(), 'ms'): 30,
                                     (b'x', 'ms'): 30}, 1.0)

    found = samples(collector(server))

    assert {key[2]: value for key, value in found.items() if key[0] == 'waiting_tasks'} == {'x': 0, 'y': 1}
    assert found['sub_queue_capacity_tasks', 'celery', 'x'] == 2 and found['sub_queue_weight', 'celery', 'x'] == 3
    assert found['sub_queue_paused', 'celery', 'y'] == 1
    assert {key[2]: value for key, value in found.items() if key[0] == 'deliveries_total'} == {'x': 2, 'y': 0}
    assert found['wait_seconds_bucket', 'celery', 'x', '0.02'] == 0
    assert found['wait_seconds_bucket', 'celery', 'x', '0.03'] == 2
    assert found['wait_seconds_sum', 'celery', 'x'] == 0.03
    counts = {key: value for key, value in found.items() if key[0].endswith('_total') and value}
    assert counts == {('deliveries_total', 'celery', 'x'): 2, ('refused_total', 'celery', 'x', 'dead-letter'): 1,
                      ('dead_letters_total', 'celery', 'x', 'full'): 1,
                      ('dead_letters_total', 'celery', 'x', 'rejected'): 1, ('throttles_total', 'celery', 'y'): 1}
    assert found['parked_tenants', 'celery'] == 1 and found['dead_tasks', 'celery'] == 2


def test_what_is_late_and_who_is_gone(server, hand):
    hand.configure(QoS())
    hand.put(task_id='x', due_ms=1)     # in the past, so it is not delayed
    hand.put(task_id='x', due_ms=2 ** 42)
    hand.redis.zadd(keys.delayed(hand.ns), {hand.redis.zrange(keys.delayed(hand.ns), 0, 0)[0]: 1})
    hand.hire('gone', seconds=0)

    found = samples(collector(server, queues=['celery', 'never']))

    assert found['delayed_overdue_seconds', 'celery'] > 10 ** 9 and found['delayed_tasks', 'celery'] == 1
    assert (found['workers', 'celery'], found['ended_leases', 'celery']) == (0, 1)
    assert found['waiting_tasks', 'never', ''] == found['slots', 'never'] == 0


def test_both_formats_are_read_by_their_parsers(server, hand):
    hand.configure(QoS(queues=[SubQueue('x', 2, 3), SubQueue('y', 2, 3)]))
    hand.put('a"\\', sub_queue='x')
    registry = CollectorRegistry()
    registry.register(collector(server))
    text = generate_latest(registry)

    old = {family.name for family in parse(text.decode())}
    new = {family.name for family in parse_openmetrics(openmetrics.generate_latest(registry).decode())}

    assert old == new == {f'celery_qos_{name}' for name in METRICS}
    # It lints names and units too.
    linted = subprocess.run([needed('promtool'), 'check', 'metrics'], input=text, capture_output=True)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b'', b'')


def test_two_scrapes_at_once_cost_one(server, redis, hand):
    hand.put()
    both = collector(server)
    samples(both)
    redis.config_resetstat()

    assert samples(both)['up',] == 1

    assert set(redis.info('commandstats')) <= {'cmdstat_config|resetstat', 'cmdstat_config', 'cmdstat_info'}


def test_nothing_is_written(server, redis, hand):
    hand.put()
    before = {key: redis.dump(key) for key in redis.keys()}
    assert samples(collector(server))['up',] == 1
    assert {key: redis.dump(key) for key in redis.keys()} == before


def test_to_register_it_asks_nothing():
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(Celery(broker='qos://localhost:1', set_as_current=False)))


def test_redis_is_away_and_comes_back(caplog):
    caplog.set_level(logging.INFO, 'celery_qos')
    with EmbeddedRedis() as server:
        exporter = collector(server)
        assert samples(exporter)['up',] == 1
        server.kill()
        until(lambda: samples(exporter)['up',] == 0)
        assert {key[0] for key in samples(exporter)} == {'up', 'scrape_duration_seconds'}
        assert [record.levelname for record in caplog.records] == ['WARNING']
        assert 'celery_qos_up is 0 until that works' in caplog.text
        server.start()
        until(lambda: samples(exporter)['up',] == 1)
        assert [record.levelname for record in caplog.records] == ['WARNING', 'INFO']


def test_a_queue_that_cannot_be_read_hides_no_other(server, redis, hand):
    hand.put()
    redis.set(keys.state(keys.namespace('broken')), 'by hand')

    found = samples(collector(server, queues=['broken', 'celery']))

    assert found['up',] == 0
    assert found['waiting_tasks', 'celery', ''] == 1 and ('slots', 'broken') not in found


def run(code: str, *words: str) -> subprocess.CompletedProcess:
    """The command line, after this code."""
    program = f'import sys\n{code}\nfrom celery.__main__ import main\nmain()'
    return subprocess.run([sys.executable, '-c', program, '-b', 'qos://localhost:1', 'qos', 'exporter', *words],
                          cwd=ROOT, text=True, capture_output=True, timeout=60)


def test_what_is_missing_is_said_in_a_line():
    done = run("sys.modules['prometheus_client'] = None")

    assert done.returncode == 2
    assert done.stderr == "Error: metrics need prometheus-client: pip install 'celery-qos[exporter]'\n"


def test_a_port_that_is_taken():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        done = run('', '--port', str(port))

    assert done.returncode == 2
    assert re.fullmatch(rf'Error: --port: cannot listen on 127\.0\.0\.1:{port} \(.*\); choose another\n', done.stderr)
