"""docs/howto: what the pages on plans, limits and Kubernetes show, is so."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from celery_qos import Tenant
from celery_qos.config import Config
from tests.integration.workers import ROOT
from tests.until import until

from .pages import Project, blocks

pytestmark = pytest.mark.once


def run(page: str, server) -> dict:
    """All Python of a page, one block after the other; what it has defined."""
    names: dict = {'__name__': page.replace('-', '_')}
    for block in blocks(page):
        exec(block.replace('qos://localhost:6379/0', server.url('qos')), names)
    return names


def test_plans(server):
    names = run('plans', server)

    control = names['control']
    names['app'].send_task('first', tenant='acme')      # stores the config
    assert control.tenant('acme')['weight'] == 5 and control.tenant('globex')['weight'] == 2
    assert control.tenant('anybody')['weight'] == 1
    assert names['plans'].tenants['acme'] == Tenant(sub_queue='gold')


def test_third_party_limits(server):
    names = run('third-party-limits', server)

    config = Config.from_data(names['app'].conf.broker_transport_options['qos'])
    assert config.of('crm').default_tenant == Tenant(rate='90/m', max_in_flight=4)
    assert config.of('celery').default_tenant == Tenant()
    control = names['control']
    assert control.tenant('acme', 'crm')['paused'] is False
    assert control.tenant('globex', 'crm')['rate'] == pytest.approx(500 / 60)
    names['app'].tasks[f'{names["__name__"]}.push'].apply_async(('acme',), queue='crm')
    assert server.client().hgetall('{qos:crm:0}:waiting') == {b':acme': b'1'}


def test_kubernetes(server, tmp_path: Path):
    text = (ROOT / 'docs' / 'howto' / 'kubernetes.md').read_text(encoding='utf-8')
    files = [yaml.safe_load(block) for block in re.findall(r'^```yaml\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)]
    container, = files[0]['spec']['template']['spec']['containers']
    assert container['command'][:4] == ['celery', '-A', 'shop', 'worker']

    project = Project('kubernetes', tmp_path, server, {
        'shop.py': 'from celery import Celery\napp = Celery(broker="qos://localhost:6379/0")\n'})
    probes = tmp_path / 'probes.py'
    probes.write_text(probes.read_text().replace('/tmp/', f'{tmp_path}/'))
    ready, alive = tmp_path / 'worker-ready', tmp_path / 'worker-alive'
    with project.worker('shop', options=container['command'][4:]) as worker:
        until(lambda: ready.exists() and alive.exists())
        worker.terminate()
        assert worker.wait() == 0
    assert not ready.exists()
