"""docs/howto/django.md: settings, a middleware, publishing on commit, django-celery-beat."""
from __future__ import annotations

from pathlib import Path

import pytest

from celery_qos.store import Store
from tests.until import until

from .pages import Project, blocks

pytest.importorskip('django', reason='Django is not installed: pip install celery-qos[test-frameworks]')
pytest.importorskip('django_celery_beat', reason='is not installed: pip install celery-qos[test-frameworks]')
pytestmark = pytest.mark.once

SETTINGS = '''
from pathlib import Path

SECRET_KEY = 'x'
ROOT_URLCONF = 'shop.urls'
ALLOWED_HOSTS = ['*']
USE_TZ = True
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': Path(__file__).with_name('db.sqlite3')}}
INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth']
MIDDLEWARE = ['django.middleware.common.CommonMiddleware']
'''
URLS = '''
from django.urls import path
from .views import order

urlpatterns = [path('orders/<str:number>', order)]
'''
REQUESTS = '''
from shop.celery import app
import django
django.setup()
from django.core.management import call_command
from django.test import Client

call_command('migrate', verbosity=0)
call_command('schedule')
for host, url in ('acme.shop', '/orders/a1'), ('hooli.shop', '/orders/h1'), ('acme.shop', '/orders/a2?fails=1'):
    assert Client(headers={'host': host}).post(url).status_code == 202
'''


def test_the_page(server, store: Store, tmp_path: Path):
    project = Project('django', tmp_path, server, {
        'shop/settings.py': SETTINGS, 'shop/urls.py': URLS,
        'shop/management/__init__.py': '', 'shop/management/commands/__init__.py': ''})

    project.run(REQUESTS)

    assert store.waiting('celery') == {'acme': 1, 'hooli': 1}, 'what is rolled back is not published'
    assert store.settings('celery', 'tenant:acme')['weight'] == 3
    with project.worker('shop', pool='prefork', options=('-B',)):
        until(lambda: len(project.notes()) >= 11, what=f'all of {project.notes()}')
    assert project.notes() == [
        ('bill_all', None),
        *(('send_invoice', order, tenant) for order, tenant in ORDERS),
        *(('write_ledger', order, tenant) for order, tenant in ORDERS)]


ORDERS = [('a1', 'acme'), ('h1', 'hooli'), ('monthly', 'initech'), ('monthly', 'umbrella'), ('weekly', 'globex')]


def test_the_schema_of_the_connection(server, tmp_path: Path):
    current, = [block for block in blocks('django') if 'schema_name' in block and 'def current' in block]
    (tmp_path / 'schemas.py').write_text(current, encoding='utf-8')
    project = Project('django', tmp_path, server, {'shop/settings.py': SETTINGS})

    project.run('import os; os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"\n'
                'from schemas import connection, current\n'
                'for schema, tenant in (None, None), ("public", None), ("acme", "acme"):\n'
                '    if schema: connection.schema_name = schema\n'
                '    assert current() == tenant')
