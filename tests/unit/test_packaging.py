"""What is installed: entry points, data files, and how little an import of Kombu costs."""
from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path

import pytest

import celery_qos

ROOT = Path(__file__).parents[2]


def setup_cfg() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / 'setup.cfg', encoding='utf-8')
    return config


def modules_after(code: str) -> set[str]:
    """The modules that a new process has imported after `code`."""
    program = f'import sys\n{code}\nprint("\\n".join(sys.modules))'
    return set(subprocess.run([sys.executable, '-c', program], check=True, text=True, capture_output=True,
                              timeout=60).stdout.split())


def test_the_version_is_that_of_the_changelog():
    newest = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.MULTILINE)

    assert newest and celery_qos.__version__ == newest[1] == distribution('celery-qos').version


def test_entry_points_load():
    found = {(point.group, point.name): point for point in distribution('celery-qos').entry_points}

    assert set(found) == {('console_scripts', 'celery-qos'), ('celery.commands', 'qos'),
                          ('kombu.serializers', 'celery-qos')}
    for program in ('console_scripts', 'celery-qos'), ('celery.commands', 'qos'):
        assert callable(found[program].load())
    assert found['kombu.serializers', 'celery-qos'].load()[:2] == (None, None)


@pytest.mark.parametrize('name', celery_qos.__all__)
def test_public_names_exist(name):
    assert getattr(celery_qos, name).__module__.startswith('celery_qos.')


def test_every_data_file_is_packaged():
    package = ROOT / 'celery_qos'
    patterns = [part.strip() for part in setup_cfg()['options.package_data']['celery_qos'].split(',')]
    packaged = {path for pattern in patterns for path in package.glob(pattern)}

    assert packaged == {path for path in package.rglob('*')
                        if path.is_file() and path.suffix not in ('.py', '.pyc')}


def test_nothing_but_celery_kombu_and_redis_is_needed():
    required = setup_cfg()['options']['install_requires'].split('\n')

    assert {re.match(r'[\w-]*', line)[0] for line in required} - {''} == {'celery', 'kombu', 'redis'}


def test_an_import_of_kombu_imports_the_plugin_alone():
    modules = modules_after('import kombu.serialization')

    assert {name for name in modules if name.startswith('celery_qos')} == {'celery_qos', 'celery_qos.plugin'}
    assert not modules & {'celery', 'redis'}


def test_a_producer_does_not_import_the_worker():
    modules = modules_after('from kombu import Connection, serialization\n'
                            'Connection("qos://localhost").get_transport_cls()')

    assert 'celery_qos.transport' in modules and 'celery.worker' not in modules
