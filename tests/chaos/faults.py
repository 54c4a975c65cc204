"""What is done to workers, to the broker and to connections: one function each, and the plan of a run.

A new fault is one function here.
"""
from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from redis import Redis
from redis.exceptions import RedisError

from celery_qos import keys

from .ledger import Fault, now
from .proxy import Proxy
from .servers import Broker
from .workers import Fleet, Worker

__all__ = ('FAULTS', 'Planned', 'World', 'Chaos', 'plan')


@dataclass
class World:
    """What faults can reach, and what they did."""

    transport: str
    broker: Broker
    proxy: Proxy
    fleet: Fleet
    lease: float
    done: list[Fault] = field(default_factory=list)
    #: The broker is ended and started by one fault at a time.
    broker_lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def recorded(self, kind: str, worker: Optional[Worker] = None, **what: Any) -> Iterator[Fault]:
        """A fault that lasts as long as the block."""
        fault = Fault(kind, now(), [worker.life.name] if worker else [], **what)
        self.done.append(fault)
        try:
            yield fault
        finally:
            fault.until = now()

    def held_by(self, worker: Worker) -> list[tuple[str, int, float]]:
        """Tasks that the broker has delivered to a process and that it has not settled."""
        if self.transport != 'qos':
            return []
        ns = keys.namespace('celery')
        mark = f':{worker.life.pid}:'.encode()
        try:
            client: Redis = self.broker.client()
            pending = client.xpending_range(keys.egress(ns), keys.GROUP, '-', '+', 1000)
            mine = {each['message_id'] for each in pending if mark in each['consumer']}
            entries = client.xrange(keys.egress(ns)) if mine else []
            client.close()
        except RedisError:
            return []
        found = []
        for entry_id, fields in entries:
            if entry_id in mine:
                headers = json.loads(fields[b'headers'])
                eta = datetime.fromisoformat(headers['eta']).timestamp() if headers.get('eta') else 0.0
                found.append((headers['id'], headers.get('retries') or 0, eta))
        return found


#: Name to how likely a fault is, what it needs ('' nothing, 'worker' any, or the name of a pool), and the fault itself.
FAULTS: dict[str, tuple[int, str, Callable]] = {}


def fault(weight: int, needs: str = '') -> Callable:
    def register(function: Callable) -> Callable:
        FAULTS[function.__name__] = weight, needs, function
        return function
    return register


@fault(16, 'worker')
def kill_worker(world: World, worker: Worker, chance: random.Random) -> None:
    """The machine of a worker is gone: SIGKILL of all its processes."""
    with world.recorded('kill_worker', worker) as record:
        worker.life.expected = True
        worker.kill_group()
    record.held = world.held_by(worker)


@fault(6, 'prefork')
def kill_main_process(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGKILL of a prefork worker's main process alone; its children notice."""
    with world.recorded('kill_main_process', worker) as record:
        worker.life.expected = True
        worker.signal(signal.SIGKILL)
        record.held = world.held_by(worker)
        time.sleep(chance.uniform(0.2, 2.0))
        worker.kill_group()     # until here, a child may have run what it had begun


@fault(12, 'prefork')
def kill_child(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGKILL of one of a prefork worker's children."""
    children = worker.children()
    if children:
        pid = chance.choice(children)
        with world.recorded('kill_child', worker, pid=pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@fault(8, 'worker')
def stop_briefly(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGSTOP of a worker, for less than its lease."""
    _stop(world, 'stop_briefly', worker, chance.uniform(0.1, 0.5) * world.lease)


@fault(8, 'worker')
def stop_beyond_lease(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGSTOP of a worker, for longer than its lease: it is given up, and goes on."""
    _stop(world, 'stop_beyond_lease', worker, chance.uniform(1.3, 2.5) * world.lease)


def _stop(world: World, kind: str, worker: Worker, seconds: float) -> None:
    with world.recorded(kind, worker):
        worker.signal_group(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            worker.signal_group(signal.SIGCONT)


@fault(12, 'worker')
def warm_shutdown(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGTERM of a worker."""
    _end(world, 'warm_shutdown', worker, signal.SIGTERM)


@fault(8, 'worker')
def cold_shutdown(world: World, worker: Worker, chance: random.Random) -> None:
    """SIGQUIT of a worker."""
    _end(world, 'cold_shutdown', worker, signal.SIGQUIT)


def _end(world: World, kind: str, worker: Worker, number: int) -> None:
    with world.recorded(kind, worker):
        worker.life.expected, worker.told = True, now()
        worker.signal(number)
        while worker.process is not None and worker.process.poll() is None:
            time.sleep(0.02)


@fault(5)
def kill_broker(world: World, worker: None, chance: random.Random) -> None:
    """kill -9 of Redis, which comes back with its append-only file."""
    with world.broker_lock, world.recorded('kill_broker', everybody=True):
        world.broker.crash(chance.uniform(0.0, 1.5))


@fault(4)
def shut_broker_down(world: World, worker: None, chance: random.Random) -> None:
    """SHUTDOWN NOSAVE of Redis, which comes back."""
    with world.broker_lock, world.recorded('shut_broker_down', everybody=True):
        world.broker.shut_down(chance.uniform(0.0, 1.5))


@fault(9)
def cut_connections(world: World, worker: None, chance: random.Random) -> None:
    """All connections through the proxy are reset."""
    with world.recorded('cut_connections', proxied=True):
        world.proxy.cut()


@fault(5)
def half_open(world: World, worker: None, chance: random.Random) -> None:
    """Nothing comes through the proxy for a while; then the connections go on, or are reset."""
    with world.recorded('half_open', proxied=True):
        world.proxy.stall()
        time.sleep(chance.uniform(0.3, 2.5) * world.lease)
        if chance.random() < 0.5:
            world.proxy.cut()
        world.proxy.go_on()


@fault(5)
def kill_all_clients(world: World, worker: None, chance: random.Random) -> None:
    """CLIENT KILL of everybody."""
    with world.broker_lock, world.recorded('kill_all_clients', everybody=True):
        client = world.broker.client()
        for kind in 'normal', 'pubsub':
            client.client_kill_filter(_type=kind, skipme=True)


@fault(8)
def kill_one_client(world: World, worker: None, chance: random.Random) -> None:
    """CLIENT KILL of one connection, of whomever."""
    with world.broker_lock, world.recorded('kill_one_client', everybody=True):
        client = world.broker.client()
        client.client_kill_filter(_id=chance.choice(client.client_list())['id'], skipme=True)


@fault(5)
def flush_scripts(world: World, worker: None, chance: random.Random) -> None:
    """SCRIPT FLUSH: every script has to be sent anew."""
    with world.broker_lock, world.recorded('flush_scripts', everybody=True):
        world.broker.client().script_flush()


@dataclass(frozen=True)
class Planned:
    """A fault to come."""

    #: Seconds after the first.
    at: float
    kind: str
    #: Which of the workers that can be hit, as a share of 1.
    whom: float
    seed: int


def plan(seed: int, count: int, seconds: float, pools: list[str]) -> list[Planned]:
    """As many faults, spread over so many seconds: always the same for a seed."""
    chance = random.Random(seed)
    possible = [name for name, (_, needs, _) in FAULTS.items() if needs in ('', 'worker', *pools)]
    weights = [FAULTS[name][0] for name in possible]
    times = sorted(chance.uniform(0, seconds) for _ in range(count))
    # Each kind once, where there is room for it.
    kinds = possible + chance.choices(possible, weights, k=max(0, count - len(possible)))
    kinds = kinds[:count]
    chance.shuffle(kinds)
    return [Planned(at, kind, chance.random(), chance.randrange(2 ** 32)) for at, kind in zip(times, kinds)]


class Chaos:
    """Does what is planned, in threads of its own."""

    #: Seconds that a fault waits for a worker to hit.
    PATIENCE = 20.0

    def __init__(self, world: World, planned: list[Planned]) -> None:
        self.world, self.planned = world, planned
        self.skipped = 0
        self.errors: list[str] = []
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name='chaos')

    def start(self) -> None:
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive() and not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Begin no more; wait for those that last."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        for planned in self.planned:
            if self._stopped.wait(max(0.0, began + planned.at - time.monotonic())):
                return
            thread = threading.Thread(target=self._do, args=(planned,), daemon=True, name=planned.kind)
            thread.start()
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def _do(self, planned: Planned) -> None:
        _, needs, function = FAULTS[planned.kind]
        chance = random.Random(planned.seed)
        worker = None
        try:
            if needs:
                worker = self._pick(needs, planned.whom)
                if worker is None:
                    self.skipped += 1
                    return
            function(self.world, worker, chance)
        except Exception as exc:
            self.errors.append(f'{planned.kind}: {exc!r}')
        finally:
            if worker is not None:
                worker.busy.release()

    def _pick(self, needs: str, whom: float) -> Optional[Worker]:
        """A worker that works and that no other fault has; it is locked."""
        deadline = time.monotonic() + self.PATIENCE
        while time.monotonic() < deadline and not self._stopped.is_set():
            able = [worker for worker in self.world.fleet.workers if needs in ('worker', worker.pool)]
            able = able[int(whom * len(able)):] + able[:int(whom * len(able))]
            for worker in able:
                if worker.alive and worker.busy.acquire(blocking=False):
                    if worker.alive:
                        return worker
                    worker.busy.release()
            time.sleep(0.1)
        return None
