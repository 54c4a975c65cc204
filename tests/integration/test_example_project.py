"""The example project does what its README says: run as its reader would, and as docker-compose.yml would."""
from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from celery_qos.embedded import EmbeddedRedis
from celery_qos.store import Store
from tests.until import until

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / 'example_project'
WORKER = 'celery --app shop worker --loglevel INFO --concurrency 1'
#: Seconds for programs to start on a busy machine.
START = 60


class Program:
    """A command as one would type it in the project's folder."""

    def __init__(self, command: str, log: Path, env: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        self._log = log
        with log.open('w') as file:
            self.process = subprocess.Popen(
                shlex.split(command), cwd=PROJECT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, 'PYTHONUNBUFFERED': '1', 'PATH': path, **env})

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, pattern: str) -> re.Match:
        return until(lambda: re.search(pattern, self.log), START, f'{pattern!r} in {self._log}')


@contextmanager
def started(command: str, log: Path, env: Mapping[str, str]) -> Iterator[Program]:
    program = Program(command, log, env)
    try:
        yield program
    finally:
        program.process.terminate()
        try:
            program.process.wait(START)
        except subprocess.TimeoutExpired:
            os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()


@pytest.fixture
def start(tmp_path: Path, server: EmbeddedRedis) -> Iterator[Callable[..., Program]]:
    """Starts a command against the test's server; ends it after the test if it still runs then."""
    urls = {'BROKER_URL': server.url('qos'), 'RESULT_BACKEND': server.url('redis', 1)}
    with ExitStack() as stack:
        yield lambda command, name, env=urls: stack.enter_context(started(command, tmp_path / f'{name}.log', env))


def processes_of(folder: Path) -> list[str]:
    """Processes with `folder` as TMPDIR, or working in it: run.py, its programs and their children, its Redis."""
    found = []
    for process in Path('/proc').glob('[0-9]*'):
        try:
            where = (process / 'environ').read_bytes().decode(errors='replace') + os.readlink(process / 'cwd')
            if str(folder) in where:
                found.append((process / 'cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace'))
        except OSError:
            pass    # it ended meanwhile
    return found


def progress(log: str) -> Counter[str]:
    """Tasks done by tenant, as run.py said last."""
    lines = re.findall('tasks done: (.*)', log)
    return Counter({name: int(tasks) for name, tasks in re.findall(r'(\w+) (\d+)', lines[-1])} if lines else ())


def summary(log: str) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """The tables that run.py ends with: what each tenant got, and how often each task ran."""
    tenants = {name: {'plan': plan, 'tasks': int(tasks), 'mean': float(mean), 'longest': float(longest)}
               for name, plan, tasks, mean, longest
               in re.findall(r'^(\w+) +(\w+|-) +(\d+) +([\d.]+) s +([\d.]+) s$', log, re.MULTILINE)}
    return tenants, {name: int(runs) for name, runs in re.findall(r'^(shop\.tasks\.\w+) +(\d+)$', log, re.MULTILINE)}


linux_only = pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='counts processes in /proc')


@linux_only
def test_it_ends_when_it_was_told_to(tmp_path: Path) -> None:
    with started(f'{sys.executable} run.py --seconds 1', tmp_path / 'log', {'TMPDIR': str(tmp_path)}) as run:
        assert run.process.wait(START) == 0, run.log
    assert processes_of(tmp_path) == []
    assert re.search('^tenant +plan +tasks +mean wait +longest$', run.log, re.MULTILINE)


@linux_only
def test_one_command_runs_it_all_until_sigterm(tmp_path: Path) -> None:
    with started(f'{sys.executable} run.py --seconds 600', tmp_path / 'log', {'TMPDIR': str(tmp_path)}) as run:
        run.says('producer-2 +.*sent')
        # run.py, Redis, two workers with a child each, beat, two producers.
        assert len(processes_of(tmp_path)) == 9
        # Each account has had a share, beat's task ran twice, and in the midst of a batch the better plan is ahead.
        shares = Counter(acme=50, globex=30, hooli=6, initech=10, platform=2)
        until(lambda: shares <= (done := progress(run.log)) and done['acme'] >= done['initech'] + 5, START,
              f'{shares} in {tmp_path / "log"}')
        run.process.terminate()
        assert run.process.wait(START) == 0, run.log
    assert processes_of(tmp_path) == []

    assert 'ERROR' not in run.log and 'Traceback' not in run.log
    tenants, tasks = summary(run.log)
    assert {name: tenant['plan'] for name, tenant in tenants.items()} == {
        'acme': 'gold', 'globex': 'silver', 'initech': 'bronze', 'hooli': 'bronze', 'platform': '-'}
    # The quiet account hardly waits, though on the cheapest plan; of the busy ones, the better plan waits less.
    assert tenants['hooli']['mean'] < tenants['initech']['mean'] / 4
    assert tenants['acme']['mean'] < tenants['initech']['mean'] * 0.75
    # Beat's task ran for the platform, and sent reminders, which sent records.
    assert tasks['shop.tasks.remind_overdue'] == tenants['platform']['tasks']
    assert min(tasks['shop.tasks.remind'], tasks['shop.tasks.record']) >= 2


def call(method: str, url: str, body: str = '') -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(Request(url, body.encode(), method=method), timeout=10) as response:
            return response.status, json.load(response)
    except HTTPError as exc:
        return exc.code, json.load(exc)


def test_web_app(start: Callable[..., Program], store: Store) -> None:
    web = start('python -m shop.web --port 0', 'web')
    site = web.says(r'listening on (\S+)')[1]

    status, queued = call('POST', f'{site}/accounts/hooli/sync')
    assert status == 202
    assert call('GET', site + queued['url']) == (200, {'state': 'PENDING', 'result': None})
    start(WORKER, 'worker').says('tenant=hooli task=shop.tasks.sync waited=')
    until(lambda: call('GET', site + queued['url']) == (200, {'state': 'SUCCESS', 'result': 'hooli is up to date'}))

    assert weight_of(store, 'hooli') == 1
    assert call('PUT', f'{site}/accounts/hooli/plan', 'gold') == (200, {'account': 'hooli', 'plan': 'gold'})
    assert weight_of(store, 'hooli') == 5

    assert call('PUT', f'{site}/accounts/hooli/plan', 'tin')[0] == 400
    assert call('POST', f'{site}/accounts/nobody/sync')[0] == 404
    assert call('GET', f'{site}/accounts/hooli/sync')[0] == 404


def weight_of(store: Store, account: str) -> float:
    return store.settings('celery', f'tenant:{account}').get('weight', 1)


def test_plans_are_the_stored_weights(start: Callable[..., Program], store: Store) -> None:
    start(WORKER, 'worker').says(r'ready\.')
    accounts = 'acme', 'globex', 'initech', 'hooli', 'new'
    assert [weight_of(store, account) for account in accounts] == [5, 3, 1, 1, 1]


def compose() -> dict[str, Any]:
    import yaml
    return yaml.safe_load((PROJECT / 'docker-compose.yml').read_text())['services']


def test_compose_services_do_what_they_say(
        server: EmbeddedRedis, start: Callable[..., Program], tmp_path: Path) -> None:
    services = compose()
    assert set(services) == {'redis', 'worker-1', 'worker-2', 'beat', 'producer-0', 'producer-2'}
    programs = {}
    for name, service in services.items():
        if name == 'redis':
            continue    # the test's own server
        env = {}
        for variable, url in service['environment'].items():
            assert urlsplit(url).hostname in services
            env[variable] = server.url(urlsplit(url).scheme, int(urlsplit(url).path.strip('/')))
        programs[name] = start(service['command'].replace('/tmp/', f'{tmp_path}/'), name, env)

    programs['producer-0'].says('(sent 1 for hooli\n){2}')
    programs['producer-2'].says('sent 100 for acme, globex, initech\n')

    def ran() -> set[tuple[str, str]]:
        logs = programs['worker-1'].log + programs['worker-2'].log
        return set(re.findall(r'tenant=(\w+) task=shop\.tasks\.(\w+) waited=', logs))

    expected = {*((account, 'sync') for account in ('acme', 'globex', 'initech', 'hooli')),
                ('platform', 'remind_overdue'),
                ('hooli', 'remind'), ('globex', 'remind'), ('hooli', 'record'), ('globex', 'record')}
    until(lambda: ran() >= expected, START, f'{expected} in the logs of the workers')
    assert ran() == expected
    for program in programs.values():
        program.process.terminate()
    for program in programs.values():
        assert program.process.wait(START) in (0, -signal.SIGTERM), program.log


def test_dockerfile_copies_what_there_is() -> None:
    for service in compose().values():
        if 'build' in service:
            context = PROJECT / service['build']['context']
            dockerfile = context / service['build']['dockerfile']
            for sources in re.findall(r'^COPY (.+) \S+$', dockerfile.read_text(), re.MULTILINE):
                for source in sources.split():
                    assert (context / source).exists(), source
