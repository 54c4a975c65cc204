"""A process that publishes: python -m tests.chaos.producers, started by `Producers`."""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from .ledger import FAILED, PUBLISHED, PUBLISHING, now

__all__ = ('Load', 'Producers')

ROOT = Path(__file__).resolve().parents[2]
#: How many plain tenants there are.
TENANTS = 24
#: Tasks published between two looks at what waits.
BATCH = 20


@dataclass(frozen=True)
class Load:
    """What to publish."""

    transport: str
    #: Tasks a second, at most.
    rate: float
    #: Tasks that may wait in all.
    backlog: int
    #: Seconds that a task takes, on average.
    mean: float
    seed: int
    #: Keeps the tenants busy that are always to have tasks waiting.
    fills: bool

    def seconds(self, chance: random.Random) -> float:
        """Of one task: most take none, some a little, few longer than a lease."""
        kind = chance.random()
        if kind < 0.6:
            return 0.0
        if kind < 0.85:
            return round(chance.uniform(0.001, 0.01), 4)
        if kind < 0.998:
            return round(chance.uniform(0.0, 2 * max(self.mean - 0.01, 0.0) / 0.15), 4)
        return round(chance.uniform(3.5, 5.0), 2)


class Producers:
    """The publishing processes.

    Arguments:
        setups: of each process.
        folder: of their logs.
    """

    def __init__(self, loads: list[tuple[Any, Load]], folder: Path) -> None:
        self._loads, self._folder = loads, folder
        self.processes: list[subprocess.Popen] = []

    def start(self) -> None:
        for number, (setup, load) in enumerate(self._loads):
            with open(self._folder / f'producer-{number}.log', 'ab') as log:
                self.processes.append(subprocess.Popen(
                    [sys.executable, '-m', 'tests.chaos.producers', json.dumps(asdict(load))], env=setup.environment(),
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def finish(self, timeout: float) -> list[int]:
        """Have each end after the task that it is publishing; returns exit codes, -9 of those that did not end."""
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + timeout
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return [process.returncode for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Producer:
    """Publishes until it is told to stop."""

    def __init__(self, load: Load) -> None:
        from . import app as module

        self.module, self.load = module, load
        self.chance = random.Random(load.seed)
        self.stopped = False
        self.waiting: dict[str, int] = {}
        self.total = 0
        self._paused_left = 300
        self._producer: Any = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        began, count, quiet_at = time.monotonic(), 0, 0.0
        with self.module.app.producer_pool.acquire(block=True) as self._producer:
            while not self.stopped:
                self.look()
                if self.load.fills:
                    if time.monotonic() >= quiet_at and not self.waiting.get('quiet'):
                        self.publish('early', 'quiet', 0.0)
                        quiet_at = time.monotonic() + 0.5
                    for tenant in 'heavy-1', 'heavy-3':
                        if self.load.transport == 'qos' and self.waiting.get(tenant, 0) < 150:
                            for _ in range(50):
                                self.publish_one(tenant)
                if self.total > self.load.backlog or (time.monotonic() - began) * self.load.rate < count:
                    time.sleep(0.02)
                    continue
                for _ in range(BATCH):
                    if self.stopped:
                        break
                    count += self.publish_any()

    def _stop(self, *args: Any) -> None:
        self.stopped = True

    def look(self) -> None:
        """How much waits; what cannot be asked now is as it was."""
        try:
            with self.module.app.pool.acquire(block=True) as connection:
                if self.load.transport == 'qos':
                    store = connection.default_channel.store
                    found = store.client.hgetall(f'{store.namespace("celery")}:waiting')
                    self.waiting = {key.decode().removeprefix(':'): int(count) for key, count in found.items()}
                    self.total = sum(count for key, count in self.waiting.items() if '\x1f' not in key)
                else:
                    self.total = connection.default_channel.client.llen('celery')
        except (RedisError, OSError, KombuError):
            time.sleep(0.1)

    def publish_any(self) -> int:
        """One task of any kind, or one chord; returns how many tasks that is."""
        kind, tenant = self.chance.random(), self.tenant()
        if tenant is None:
            return 0
        if kind < 0.01:
            return self.publish_chord(tenant)
        if kind < 0.05:
            return self.publish_one(tenant, retries=self.chance.randint(1, 2),
                                    countdown=round(self.chance.uniform(0.0, 1.5), 2))
        if kind < 0.10:
            return self.publish_one(tenant, delay=round(self.chance.uniform(0.1, 6.0), 2))
        return self.publish_one(tenant, priority=self.chance.randint(0, 9) if kind < 0.2 else None)

    def tenant(self) -> Any:
        """Whose task is next, None where that one has enough waiting."""
        kind, number = self.chance.random(), self.chance.randrange(TENANTS)
        if kind < 0.05:
            name: Any = 'capped'
        elif kind < 0.08:
            name = 'rated'
        elif kind < 0.10:
            if self._paused_left <= 0:
                return None
            self._paused_left -= 1
            return 'paused'
        elif kind < 0.2:
            name = (f'firm-{number % 3}', f'user-{number}')
        else:
            name = f'tenant-{number}'
        limit = 100 if name in ('capped', 'rated') else 400
        return name if self.waiting.get(name if isinstance(name, str) else name[0], 0) < limit else None

    def publish_one(self, tenant: Any, retries: int = 0, countdown: float = 0.0, delay: float = 0.0,
                    priority: Optional[int] = None) -> int:
        name = self.chance.choice(['early', 'late'])
        return self.publish(name, tenant, self.load.seconds(self.chance), retries, countdown, delay, priority)

    def publish(self, name: str, tenant: Any, seconds: float, retries: int = 0, countdown: float = 0.0,
                delay: float = 0.0, priority: Optional[int] = None) -> int:
        task_id, book = uuid.uuid4().hex, self.module.book
        book.write(self._line(task_id, name, tenant, retries, delay))
        options: dict[str, Any] = {'countdown': delay} if delay else {}
        if priority is not None:
            options['priority'] = priority
        try:
            getattr(self.module, name).apply_async(
                (seconds, retries, countdown), task_id=task_id, tenant=tenant, producer=self._producer, **options)
        except Exception as exc:
            book.write((FAILED, task_id, now(), repr(exc)[:200].replace('\t', ' ')))
        else:
            book.write((PUBLISHED, task_id, now()))
        return 1

    def publish_chord(self, tenant: Any) -> int:
        from celery import chord

        book, module = self.module.book, self.module
        body = uuid.uuid4().hex
        parts = [uuid.uuid4().hex for _ in range(self.chance.randint(2, 5))]
        book.write(self._line(body, 'whole', tenant), *(self._line(each, 'part', tenant, body=body) for each in parts))
        signatures = [module.part.s(self.load.seconds(self.chance)).set(task_id=each, tenant=tenant) for each in parts]
        try:
            chord(signatures)(module.whole.s().set(task_id=body, tenant=tenant))
        except Exception as exc:
            book.write(*((FAILED, each, now(), repr(exc)[:200].replace('\t', ' ')) for each in (body, *parts)))
        else:
            book.write(*((PUBLISHED, each, now()) for each in (body, *parts)))
        return len(parts) + 1

    @staticmethod
    def _line(task_id: str, name: str, tenant: Any, retries: int = 0, countdown: float = 0.0, body: str = '') -> tuple:
        key = tenant if isinstance(tenant, str) else '/'.join(tenant)
        return PUBLISHING, task_id, now(), name, key, retries, countdown, body


if __name__ == '__main__':
    Producer(Load(**json.loads(sys.argv[1]))).run()
