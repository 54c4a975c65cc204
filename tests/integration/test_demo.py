"""The demo, run as the program that it is."""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from celery_qos.demo.waits import Wait, Waits
from tests.until import until

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='finds processes through /proc'),
]


class Demo:
    """The running program. What it starts is found by the TMPDIR in its environment, or the socket in its title."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.output = folder.with_suffix('.out')
        environment = {**os.environ, 'TMPDIR': str(folder), **environment}
        with self.output.open('wb') as out:
            self.process = subprocess.Popen([sys.executable, '-m', 'celery_qos.cli', 'demo', *arguments],
                                            env=environment, stdout=out, stderr=out, start_new_session=True)

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self) -> int:
        return self.process.wait(90)

    def processes(self) -> list[tuple[int, str]]:
        """Pid and command line of all that is alive of the demo."""
        found = []
        for place in Path('/proc').glob('[0-9]*'):
            try:
                environment, command = (place / 'environ').read_bytes(), (place / 'cmdline').read_bytes()
            except OSError:
                continue
            if command and (f'TMPDIR={self.folder}\0'.encode() in environment or f'{self.folder}/'.encode() in command):
                found.append((int(place.name), command.replace(b'\0', b' ').decode()))
        return found

    def count(self, command: str) -> int:
        return sum(command in each for _, each in self.processes())

    def worker(self, scheme: str) -> int:
        """Pid of the worker on a transport."""
        return next(pid for pid, command in self.processes() if 'demo.worker' in command and f' {scheme}' in command)

    def files(self) -> list[Path]:
        return list(self.folder.iterdir())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts a demo whose temporary files lie in a folder of the test."""
    demos: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        # Short, as the path of a unix socket must be.
        folder = Path(f'/tmp/cq-{os.getpid()}-{tmp_path.name[-12:]}')
        folder.mkdir()
        demos.append(Demo(folder, *arguments, **environment))
        return demos[-1]

    yield start
    for demo in demos:
        for pid, _ in demo.processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()
        shutil.rmtree(demo.folder)
        demo.output.unlink()


def loaded(demo: Demo) -> bool:
    assert demo.process.poll() is None, demo.text
    return ' wait | stock redis: quiet ' in demo.text


def table(text: str) -> dict[tuple[str, str], list[str]]:
    """The cells of the final table by transport and tenant."""
    lines = text[text.index('tenant  waiting'):].splitlines()[1:5]
    cells, side = {}, ''
    for line in lines:
        side = line[:13].strip() or side
        tenant, *rest = re.split(r'\s{2,}', line[13:].strip())
        cells[side, tenant] = rest
    return cells


def seconds(figure: str) -> float:
    number, unit = figure.lstrip('>').split()
    return float(number) / (1000 if unit == 'ms' else 1)


def test_shows_that_the_quiet_tenant_waits_less(start: Any) -> None:
    demo = start('--plain', '--seconds', '3')
    assert demo.wait() == 0, demo.text
    cells = table(demo.text)
    assert set(cells) == {('celery-qos', '0'), ('celery-qos', '2'), ('stock redis', '0'), ('stock redis', '2')}
    for side in 'celery-qos', 'stock redis':
        assert [sum(map(int, cells[side, tenant][:3])) for tenant in '02'] == [3, 100], demo.text
    fair, stock = (seconds(cells[side, '0'][3]) for side in ('celery-qos', 'stock redis'))
    assert fair < stock / 3, demo.text
    assert f'{cells["celery-qos", "0"][3]} in the median' in ' '.join(demo.text.split())
    assert 'Traceback' not in demo.text and 'Warning' not in demo.text
    assert not demo.processes() and not demo.files()


def test_draws_the_waits(start: Any, tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    picture = tmp_path / 'waits.png'
    demo = start('--plain', '--seconds', '1', '--plot', str(picture))
    assert demo.wait() == 0, demo.text
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_tasks_that_never_start_count_with_their_age(start: Any) -> None:
    demo = start('--plain', '--seconds', '1')
    until(lambda: loaded(demo))
    os.kill(demo.worker('redis+'), signal.SIGSTOP)
    assert demo.wait() == 0, demo.text
    waiting, in_flight, done, *figures = table(demo.text)['stock redis', '0']
    assert (waiting, in_flight, done) == ('1', '0', '0')
    assert all(figure.startswith('>') and seconds(figure) > 5 for figure in figures), demo.text
    assert '1 of tenant 0 on stock redis' in ' '.join(demo.text.split())
    assert not demo.processes() and not demo.files()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing(start: Any, number: signal.Signals) -> None:
    demo = start('--plain')
    until(lambda: loaded(demo))
    assert demo.count('demo.worker') == 2 and demo.count('redis-server') == 2
    os.killpg(demo.process.pid, number)     # as a terminal does
    assert demo.wait() == 128 + number
    assert demo.text.endswith(f'ended by {number.name}\n')
    assert not demo.processes() and not demo.files()


def test_a_signal_while_it_starts_leaves_nothing(start: Any) -> None:
    demo = start('--plain')
    until(lambda: demo.count('redis-server'))
    demo.process.terminate()
    assert demo.wait() == 128 + signal.SIGTERM
    assert not demo.processes() and not demo.files()


def test_killed_it_still_leaves_nothing_for_long(start: Any) -> None:
    demo = start('--plain')
    until(lambda: loaded(demo))
    demo.process.kill()
    demo.wait()
    until(lambda: not demo.processes() and not demo.files())


def test_a_worker_that_dies_is_an_error(start: Any) -> None:
    demo = start('--plain')
    until(lambda: loaded(demo))
    os.kill(demo.worker('qos+'), signal.SIGKILL)
    assert demo.wait() == 1
    assert 'Error: the celery-qos worker ended with status -9' in demo.text and 'Traceback' not in demo.text
    assert not demo.processes() and not demo.files()


def test_a_server_that_dies_is_an_error(start: Any) -> None:
    demo = start('--plain')
    until(lambda: loaded(demo))
    pid = next(pid for pid, command in demo.processes() if 'redis-server' in command)
    os.kill(pid, signal.SIGKILL)
    assert demo.wait() == 1
    assert 'Error: ' in demo.text and 'Traceback' not in demo.text
    assert not demo.processes() and not demo.files()


def test_leaves_the_users_own_broker_alone(start: Any, server: Any) -> None:
    server.client().config_resetstat()
    demo = start('--plain', '--seconds', '1', CELERY_BROKER_URL=server.url('redis'))
    assert demo.wait() == 0, demo.text
    assert server.client().dbsize() == 0
    commands = server.client().info('commandstats')
    assert 'cmdstat_lpush' not in commands and 'cmdstat_evalsha' not in commands


@pytest.mark.parametrize('package, arguments, remedy', [
    ('matplotlib', ['--plain', '--plot', 'waits.png'], 'pip install "celery-qos[plot]"'),
    ('rich', [], 'pip install "celery-qos[demo]"  or give --plain'),
])
def test_names_the_extra_of_a_missing_package(tmp_path: Path, package: str, arguments: list[str], remedy: str) -> None:
    program = (f'import sys; sys.modules[{package!r}] = None; sys.stdout.isatty = lambda: True\n'
               f'from celery_qos.cli import main; main()')
    result = subprocess.run([sys.executable, '-c', program, 'demo', *arguments], capture_output=True, text=True,
                            cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith('Error: ') and remedy in result.stderr and result.stderr.count('\n') == 1


@pytest.mark.parametrize('name, remedy', [('waits.bmp', 'must end in .png'), ('no/such/waits.png', 'make it first')])
def test_refuses_a_picture_it_could_not_write_before_it_starts(tmp_path: Path, name: str, remedy: str) -> None:
    pytest.importorskip('matplotlib')
    began = time()
    result = subprocess.run([sys.executable, '-m', 'celery_qos.cli', 'demo', '--plain', '--plot', str(tmp_path / name)],
                            capture_output=True, text=True)
    assert result.returncode == 1 and remedy in result.stderr
    assert result.stderr.startswith('Error: ') and result.stderr.count('\n') == 1
    assert time() - began < 15


def test_help_has_an_example() -> None:
    result = subprocess.run([sys.executable, '-m', 'celery_qos.cli', 'demo', '--help'], capture_output=True, text=True)
    assert result.returncode == 0 and 'celery-qos demo --seconds' in result.stdout


def test_a_task_that_has_not_started_is_not_dropped_from_the_figures() -> None:
    waits = Waits([Wait(0.1), Wait(0.2), Wait(5.0, open=True)])
    assert waits.median == Wait(0.2)
    assert waits.longest == Wait(5.0, open=True)
    assert str(waits.longest) == '>5.0 s'


def test_a_quantile_above_a_task_that_has_not_started_is_a_lower_bound() -> None:
    assert Waits([Wait(0.1, open=True), Wait(0.2), Wait(0.3)]).median == Wait(0.2, open=True)
