"""docs/howto/schedulers-and-batches.md: what beat, celery-redbeat and celery-batches do on this transport."""
from __future__ import annotations

from pathlib import Path

import pytest

from celery_qos.embedded import EmbeddedRedis
from celery_qos.store import Store
from tests.until import until

from .pages import Project

WHERE = 'is not installed: pip install celery-qos[test-frameworks]'


@pytest.fixture
def project(server: EmbeddedRedis, tmp_path: Path) -> Project:
    return Project('schedulers-and-batches', tmp_path, server)


@pytest.mark.once
def test_beat(project: Project):
    with project.worker('shop', options=('-B', '-s', str(project.folder / 'schedule'))):
        until(lambda: len(project.notes()) == 2)
    assert project.notes() == [('report', 'house', None), ('report', 'weekly', 'globex')]


@pytest.mark.once
def test_redbeat(project: Project):
    pytest.importorskip('redbeat', reason=f'celery-redbeat {WHERE}')
    project.run('import red; red.add("acme")')
    with project.worker('red', options=('-B',)):
        until(lambda: len(project.notes()) == 2)
    assert project.notes() == [('report', 'nightly', 'acme'), ('report', 'weekly', 'globex')]


def test_batches(project: Project, server: EmbeddedRedis, store: Store):
    """All run, and their slots are free again; a lost connection repeats none, and loses none."""
    pytest.importorskip('celery_batches', reason='celery-batches is not installed; it needs Celery below 5.7')
    redis = server.client()
    project.hold()
    project.run('import bulk\nfor row in range(24):\n'
                '    for tenant in "acme", "globex": bulk.insert.delay(row=row, tenant=tenant)\n'
                'for tenant in "acme", "globex":\n'
                '    bulk.insert.apply_async(kwargs={"row": "later", "tenant": tenant}, countdown=0.1)')
    calls = {('insert', row, tenant, tenant) for row in [*range(24), 'later'] for tenant in ('acme', 'globex')}

    with project.worker('bulk', pool='prefork') as worker:
        # Two batches run, two wait for a process, which are all slots.
        until(lambda: project.times == 20 and store.waiting('celery') == {'acme': 5, 'globex': 5})
        for client in redis.client_list(_type='normal'):
            if client['db'] == '0' and client['cmd'] == 'xreadgroup':
                redis.client_kill_filter(_id=client['id'])
        worker.wait_for('onnection to broker lost')
        project.let_go()
        until(lambda: set(project.notes()) == calls)
        until(lambda: not redis.xlen('{qos:celery:0}:egress') and not store.waiting('celery'))
        assert project.times == len(calls), 'each once'
