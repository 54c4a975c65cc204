"""docs/howto/web-frameworks.md: what Flask and FastAPI publish is of the tenant of the request."""
from __future__ import annotations

from pathlib import Path

import pytest

from celery_qos.store import Store
from tests.until import until

from .pages import Project

pytestmark = pytest.mark.once
WHERE = 'is not installed: pip install celery-qos[test-frameworks]'


def test_flask(server, store: Store, tmp_path: Path):
    pytest.importorskip('flask', reason=f'Flask {WHERE}')
    project = Project('web-frameworks', tmp_path, server)

    project.run('''if True:
        from web import create_app
        client = create_app().test_client()
        for number, tenant in ('a1', 'acme'), ('g1', 'globex'):
            assert client.post(f'/orders/{number}', headers={'X-Tenant': tenant}).status_code == 202
        assert client.post('/orders/n1').status_code == 202
    ''')

    assert store.waiting('celery') == {'acme': 1, 'globex': 1, '': 1}
    assert store.settings('celery', 'tenant:acme')['weight'] == 3
    with project.worker('make_celery'):
        until(lambda: len(project.notes()) == 3)
    assert project.notes() == [('send_invoice', 'a1', 'acme'), ('send_invoice', 'g1', 'globex'),
                               ('send_invoice', 'n1', None)]


def test_fastapi(server, store: Store, tmp_path: Path):
    pytest.importorskip('fastapi', reason=f'FastAPI {WHERE}')
    project = Project('web-frameworks', tmp_path, server)

    project.run('''if True:
        import celery_qos
        from fastapi.testclient import TestClient
        from api.main import api
        from api.worker import app
        with TestClient(api) as client:
            for number, tenant in ('a1', 'acme'), ('g1', 'globex'):
                for path in '/orders', '/async/orders':
                    answer = client.post(f'{path}/{path[1]}{number}', headers={'X-Tenant': tenant})
                    assert answer.status_code == 202, answer.text
            celery_qos.control(app).set_tenant('globex', capacity=2)
            answer = client.post('/async/orders/g2', headers={'X-Tenant': 'globex'})
            assert answer.status_code == 429 and 'globex' in answer.json()['error'], answer.text
    ''')

    assert store.waiting('celery') == {'acme': 2, 'globex': 2}
    with project.worker('api.worker'):
        until(lambda: len(project.notes()) == 4)
    assert project.notes() == [('send_invoice', f'{path}{tenant[0]}1', tenant)
                               for path in 'ao' for tenant in ('acme', 'globex')]
