"""One run from start to end: servers, workers, load, faults, quiet again; returns what there is to judge."""
from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import celery
import kombu
import redis as redis_py
from redis.exceptions import RedisError

import celery_qos
from celery_qos import keys

from .faults import Chaos, World, plan
from .ledger import Fault, History, now
from .producers import Load, Producers
from .proxy import Proxy
from .servers import Broker, Keeper
from .settings import Setup
from .workers import Fleet, Life

__all__ = ('Options', 'Evidence', 'run')

#: Seconds from the first task to the first fault.
WARM_UP = 3.0
#: Seconds that everything may take to be idle when nothing is published any more.
DRAIN = 120.0


@dataclass(frozen=True)
class Options:
    minutes: float
    faults: int
    tasks: int
    seed: int
    #: Of the workers, one each.
    pools: tuple[str, ...]
    transport: str
    lease_seconds: float
    visibility_timeout: float
    binary: Optional[Path] = None
    keep_logs: Optional[Path] = None


@dataclass
class Evidence:
    """What a run leaves to be judged."""

    options: Options
    history: History
    faults: list[Fault]
    lives: list[Life]
    #: Tasks that can run at a time.
    slots: int
    began: float
    #: When producers and faults were told to stop, and when all was idle; None where it never was.
    stopped: float
    idle: Optional[float]
    #: When the paused tenant was let go.
    lifted: Optional[float]
    #: Exit codes of producers.
    producers: list[int]
    skipped: int
    errors: list[str]
    #: Key of the broker to what is odd about it.
    keys_left: dict[str, str]
    versions: dict[str, str]
    #: What is not idle where `idle` is None.
    left: str = ''
    #: Of lives that ended by themselves, the end of the log.
    logs: dict[str, str] = field(default_factory=dict)


def run(options: Options, say: Callable[[str], Any]) -> Evidence:
    folder = Path(tempfile.mkdtemp(prefix='celery-qos-chaos-'))
    try:
        return _run(options, folder, say)
    finally:
        if options.keep_logs:
            shutil.copytree(folder, options.keep_logs, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _run(options: Options, folder: Path, say: Callable[[str], Any]) -> Evidence:
    with Keeper(options.binary) as keeper, Broker(options.binary) as broker, Proxy(broker.socket) as proxy:
        direct = Setup(options.transport, broker.url(options.transport), keeper.url('redis', 1), keeper.socket,
                       options.lease_seconds, options.visibility_timeout)
        proxied = replace(direct, broker=f'{options.transport}://127.0.0.1:{proxy.port}/0')
        fleet = Fleet(list(options.pools), (direct, proxied), folder, options.seed)
        world = World(options.transport, broker, proxy, fleet, options.lease_seconds)
        rate = 1.2 * options.tasks / (options.minutes * 60)
        load = Load(options.transport, rate / 2, 40 * fleet.slots, 0.7 * fleet.slots / rate, options.seed, True)
        producers = Producers([
            (direct, load), (proxied, replace(load, seed=options.seed + 1, fills=False))], folder)
        session = _Session(options, keeper, world, producers, say)
        try:
            return session.run()
        finally:
            producers.kill()
            fleet.kill()
            session.chaos.stop()
            if options.keep_logs:
                shutil.copy(broker.logfile, folder / 'broker.log')


class _Session:
    """The steps of a run on servers that are there."""

    def __init__(self, options: Options, keeper: Keeper, world: World, producers: Producers,
                 say: Callable[[str], Any]) -> None:
        self.options, self.keeper, self.world, self.producers, self.say = options, keeper, world, producers, say
        self.book = keeper.client()
        self.chaos = Chaos(world, plan(
            options.seed, options.faults, options.minutes * 60 - WARM_UP, list(dict.fromkeys(options.pools))))
        self.lifted: Optional[float] = None
        self._said = 0.0

    @property
    def published(self) -> int:
        return int(self.book.llen('publishing'))

    def run(self) -> Evidence:
        fleet = self.world.fleet
        fleet.start()
        fleet.wait_ready()
        self.producers.start()
        began = now()
        self._until(lambda: now() > began + WARM_UP, WARM_UP + 1)
        self.chaos.start()
        seconds = self.options.minutes * 60
        self._until(lambda: now() > began + seconds / 2, seconds)
        self._lift()
        # A busy machine gets half as much time again.
        self._until(lambda: now() > began + seconds and self.published >= self.options.tasks and self.chaos.over,
                    seconds)
        stopped = now()
        codes = self.producers.finish(60)
        self.chaos.stop()
        self.say('faults and load have ended')
        idle = self._until(self._is_idle, DRAIN + self.options.visibility_timeout)
        left = '' if idle else self._unsettled()
        fleet.finish()
        versions = {'python': platform.python_version(), 'celery': celery.__version__, 'kombu': kombu.__version__,
                    'redis-py': redis_py.__version__, 'celery-qos': celery_qos.__version__,
                    'redis': self.world.broker.client().info('server')['redis_version']}
        keys_left = self._keys_left()
        history = History(self.book)
        return Evidence(
            self.options, history, self._faults(), fleet.lives, fleet.slots, began, stopped, now() if idle else None,
            self.lifted, codes, self.chaos.skipped, self.chaos.errors, keys_left, versions, left, self._logs())

    def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if condition():
                return True
            if time.monotonic() - self._said > 10:
                self._said = time.monotonic()
                self.say(f'{self.published} tasks published, {self.book.llen("ended")} ends, '
                         f'{len(self.world.done)} faults')
            time.sleep(0.1)
        return condition()

    def _lift(self) -> None:
        if self.options.transport == 'qos':
            with self.world.broker_lock:
                app = celery.Celery('control', broker=self.world.broker.url('qos'), set_as_current=False)
                celery_qos.control(app).set_tenant('paused', paused=False)
                self.lifted = now()

    def _is_idle(self) -> bool:
        """Nothing waits, nothing is delivered."""
        client = self.world.broker.client()
        try:
            if self.options.transport == 'qos':
                ns = keys.namespace('celery')
                running = any(client.exists(key) for key in client.scan_iter(f'{ns}:running:*', count=1000))
                return not (client.exists(f'{ns}:waiting', f'{ns}:delayed', f'{ns}:discarded')
                            or client.xlen(keys.egress(ns)) or running)
            return not (client.hlen('unacked') or any(client.scan_iter('celery*', count=1000, _type='list')))
        except RedisError:
            return False
        finally:
            client.close()

    def _unsettled(self) -> str:
        client = self.world.broker.client()
        if self.options.transport != 'qos':
            return f'{client.hlen("unacked")} unacked'
        ns = keys.namespace('celery')
        return (f'waiting {client.hgetall(f"{ns}:waiting")}, leases {client.zrange(f"{ns}:leases", 0, -1)}, '
                f'pending {client.xpending_range(keys.egress(ns), keys.GROUP, "-", "+", 50)}, '
                f'egress {client.xrange(keys.egress(ns), count=20)}')

    def _keys_left(self) -> dict[str, str]:
        """What an idle queue without workers must not have."""
        if self.options.transport != 'qos':
            return {}
        client, ns, found = self.world.broker.client(), keys.namespace('celery'), {}
        for key in sorted(client.scan_iter(count=1000)):
            name, ttl = key.decode(), client.ttl(key)
            if name == keys.dead(ns):
                found[name] = f'{client.xlen(key)} dead letters: {client.xrange(key, count=20)}'
            elif name.startswith('_kombu.binding') or name == keys.settings(ns):
                continue
            elif ttl < 0:
                found[name] = f'{client.type(key).decode()} without a TTL'
        return found

    def _faults(self) -> list[Fault]:
        """What was done, and the ends of workers that nothing explains."""
        faults = list(self.world.done)
        for life in self.world.fleet.lives:
            if life.ended is not None and (life.stuck or not life.expected):
                faults.append(Fault('stuck' if life.stuck else 'died', life.ended, [life.name], life.ended))
        return sorted(faults, key=lambda fault: fault.at)

    def _logs(self) -> dict[str, str]:
        logs = {}
        for worker in self.world.fleet.workers:
            if any(not life.expected or life.stuck or life.code for life in worker.lives):
                logs[worker.name] = worker.logfile.read_text(errors='replace')[-20_000:]
        return logs
