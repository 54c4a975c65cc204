"""Real Celery workers, each in a process group of its own, started again when they have ended."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .ledger import now
from .settings import Setup

__all__ = ('Fleet', 'Worker', 'Life', 'SIZES')

ROOT = Path(__file__).resolve().parents[2]
#: How many tasks a worker of a pool runs at a time.
SIZES = {'prefork': 2, 'threads': 4, 'solo': 1, 'gevent': 5}
#: Seconds that a worker may take to be ready, or to end after it was told to.
PATIENCE = 60.0


@dataclass
class Life:
    """One process, from its start to its end."""

    #: Such as `prefork-1.3`, the third life of `prefork-1`.
    name: str
    pool: str
    pid: int
    proxied: bool
    began: float
    ready: Optional[float] = None
    ended: Optional[float] = None
    code: Optional[int] = None
    #: A fault, or the end of the run, was to end it.
    expected: bool = False
    #: It had to be killed, as it did not end in time.
    stuck: bool = False


class Worker:
    """A place in the fleet, which one process after another has."""

    def __init__(self, name: str, pool: str, setup: Setup, proxied: bool, folder: Path) -> None:
        self.name, self.pool, self.setup, self.proxied = name, pool, setup, proxied
        self.logfile = folder / f'{name}.log'
        self.lives: list[Life] = []
        self.process: Optional[subprocess.Popen] = None
        #: A fault that lasts has it.
        self.busy = threading.Lock()
        #: When it was told to end.
        self.told: Optional[float] = None
        self.restart_at: Optional[float] = None
        self._offset = 0

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def alive(self) -> bool:
        """It works, and nothing ends it yet."""
        return (self.process is not None and self.process.poll() is None and self.life.ready is not None
                and not self.life.expected)

    def start(self) -> None:
        self.kill_group()
        number = len(self.lives) + 1
        name = f'{self.name}.{number}'
        self._offset = self.logfile.stat().st_size if self.logfile.exists() else 0
        with open(self.logfile, 'ab') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'celery', '-A', 'tests.chaos.app', 'worker', '-P', self.pool,
                 '-c', str(SIZES[self.pool]), '-n', name, '-l', 'INFO', '--without-gossip', '--without-mingle',
                 '--without-heartbeat'],
                env={**self.setup.environment(), 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'},
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.told = self.restart_at = None
        self.lives.append(Life(name, self.pool, self.process.pid, self.proxied, now()))

    def look(self) -> None:
        """Note what has become of the process."""
        if self.process is None or self.life.ended is not None:
            return
        if self.life.ready is None and b' ready.' in self.tail():
            self.life.ready = now()
        if (code := self.process.poll()) is not None:
            self.life.ended, self.life.code = now(), code
        elif self.told is not None and now() - self.told > PATIENCE:
            self.life.stuck = True
            self.kill_group()

    def tail(self) -> bytes:
        """What this life wrote to its log."""
        with open(self.logfile, 'rb') as log:
            log.seek(self._offset)
            return log.read()

    def children(self) -> list[int]:
        """Process ids of the pool's children."""
        try:
            text = Path(f'/proc/{self.life.pid}/task/{self.life.pid}/children').read_text()
        except OSError:
            return []
        return [int(each) for each in text.split()]

    def signal(self, number: int) -> None:
        """To the main process."""
        try:
            os.kill(self.life.pid, number)
        except ProcessLookupError:
            pass

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.life.pid, number)
        except ProcessLookupError:
            pass

    def kill_group(self) -> None:
        if self.process is not None:
            self.signal_group(signal.SIGKILL)
            self.process.wait()


class Fleet:
    """All workers, and the thread that starts those again that have ended.

    Arguments:
        pools: of the workers, one each.
        setups: the settings of the workers that connect to the broker itself, and of those behind the proxy.
        seed: of the pauses before a restart.
    """

    def __init__(self, pools: list[str], setups: tuple[Setup, Setup], folder: Path, seed: int) -> None:
        self.workers: list[Worker] = []
        for number, pool in enumerate(pools):
            name = f'{pool}-{pools[:number].count(pool) + 1}'
            proxied = bool((number + pools[:number].count(pool)) % 2)
            self.workers.append(Worker(name, pool, setups[proxied], proxied, folder))
        self._chance = random.Random(seed)
        self._restarts = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name='fleet')

    @property
    def slots(self) -> int:
        """Tasks that can run at a time."""
        return sum(SIZES[worker.pool] for worker in self.workers)

    @property
    def lives(self) -> list[Life]:
        return [life for worker in self.workers for life in worker.lives]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()
        self._thread.start()

    def wait_ready(self) -> None:
        """Until every worker has said that it is ready."""
        deadline = time.monotonic() + PATIENCE
        while not all(worker.alive for worker in self.workers):
            if time.monotonic() > deadline:
                late = [worker.name for worker in self.workers if not worker.alive]
                raise RuntimeError(f'not ready within {PATIENCE:g} s: {", ".join(late)}')
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            for worker in self.workers:
                worker.look()
                if worker.life.ended is None or not self._restarts:
                    continue
                if worker.restart_at is None:
                    worker.restart_at = now() + self._chance.uniform(0.2, 2.0)
                elif now() >= worker.restart_at and not worker.busy.locked():
                    worker.start()

    def finish(self) -> None:
        """Have every worker end by itself."""
        self._restarts = False
        for worker in self.workers:
            if worker.life.ended is None:
                worker.life.expected = True
                worker.told = now()
                worker.signal(signal.SIGTERM)
        while any(worker.life.ended is None for worker in self.workers):
            time.sleep(0.05)
        self._stopped.set()
        self._thread.join()

    def kill(self) -> None:
        self._restarts = False
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        for worker in self.workers:
            worker.kill_group()
