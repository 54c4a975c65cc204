"""How the server's work, and its memory, grow with what is stored.

Times are those that the server states in ``INFO commandstats``; they pass while it waits for a processor, too. Most
cases act through the store, as publishers and workers do, but without their Python, so that a million tenants take
minutes.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from time import sleep, time
from typing import Any, NamedTuple, Optional

from redis import Redis

from celery_qos import keys
from celery_qos.publication import Publication
from celery_qos.scripts import script
from celery_qos.store import Store

from .brokers import Broker, RedisBroker
from .counts import ON_REDIS, Drain, Publish, wired
from .figures import BenchmarkError, Figure, Size
from .wire import SCRIPTS, Wire, server_micros

__all__ = ('cases',)

QUEUE, CONSUMER = 'celery', 'worker'
#: Bytes of a task: 700, its fields included.
PAYLOAD = b'x' * 680
#: What a worker with Celery's default settings, and one process, prefetches; so many it settles and reads at a time.
PREFETCH = 4
#: Seconds; longer than any case.
LEASE = 3600.0
#: As many as Celery's transport remembers by default, in seconds.
REMEMBER = 60.0


class Queue:
    """A queue that is worked by hand."""

    def __init__(self, client: Redis, wire: Wire) -> None:
        self.direct = client
        #: What is measured goes through the wire.
        self.store = Store(Redis(unix_socket_path=wire.socket))
        self._wire = wire
        self._numbers = count()
        # None is compiled while it is measured.
        for name in SCRIPTS:
            client.script_load(script(name).source)
        self.store.declare(QUEUE)

    def publish(self, tenant: str) -> None:
        """As the transport does."""
        name = f'{next(self._numbers):036}'
        self.store.enqueue(QUEUE, tenant, 0, {'tenant': tenant, 'body': PAYLOAD}, message_id=name,
                           remember_seconds=REMEMBER, task_id=name)

    def fill(self, tenants: Iterable[str], expires_ms: Optional[int] = None, due_ms: Optional[int] = None) -> None:
        """A task for each of `tenants`, without waiting for replies."""
        first = {} if expires_ms is None else {'expires': str(expires_ms)}
        store, rest = Store(self.direct), iter(tenants)
        while some := list(islice(rest, 2000)):
            store.enqueue_all([
                Publication(QUEUE, tenant, 0, {**first, 'tenant': tenant, 'body': PAYLOAD}, due_ms=due_ms,
                            task_id=f'{next(self._numbers):036}') for tenant in some])

    def hire(self, slots: int = PREFETCH, consumer: str = CONSUMER) -> None:
        self.store.lease(QUEUE, consumer, slots, LEASE)

    def read(self, at_most: int, consumer: str = CONSUMER) -> list[str]:
        """Names of the tasks that are delivered; does not wait."""
        reply: Any = self.store.client.execute_command(*self.store.read_command([QUEUE], consumer, at_most))
        return [entry_id.decode() for _, entries in reply or () for entry_id, _ in entries]

    def settle_and_read(self, held: list[str]) -> list[str]:
        """One turn of a worker's loop."""
        self.store.settle(QUEUE, held)
        return self.read(PREFETCH)

    def sweep(self, times: int) -> None:
        for _ in range(times):
            self.store.sweep(QUEUE, LEASE, 'sweeper')

    @property
    def memory(self) -> int:
        """Bytes of the data, the table of keys included; not of clients, the log of slow calls and Lua."""
        for client in self.store.client, self.direct:
            client.connection_pool.disconnect()
        self.direct.slowlog_reset()
        # By then the server has freed what was theirs, and made its own tables smaller.
        sleep(1)
        stats: Any = self.direct.memory_stats()
        return stats['dataset.bytes'] + sum(stats.get('db.0', {}).values())

    def micros(self, act: Callable[[], Any]) -> float:
        """Microseconds that the server is at work on what `act` sends."""
        self.direct.config_resetstat()
        with self._wire.recording() as trips:
            act()
        return server_micros(self.direct, trips)

    def longest(self, act: Callable[[], Any]) -> float:
        """Milliseconds of the longest call while `act` runs."""
        self.direct.config_set('slowlog-log-slower-than', 0)
        self.direct.slowlog_reset()
        act()
        calls = self.direct.slowlog_get(-1)
        return max(call['duration'] for call in calls if call['command'].startswith((b'EVAL', b'SCRIPT'))) / 1000


@contextmanager
def by_hand(broker: Broker) -> Iterator[Queue]:
    assert isinstance(broker, RedisBroker)
    with Wire(broker.socket) as wire:
        yield Queue(broker.client(), wire)


class Backlog(NamedTuple):
    """Publishing, and a worker's turns, while so many tenants wait. None of them drains meanwhile."""

    tenants: int
    #: Tasks that are measured.
    number: int
    workload: str = 'scale'
    brokers: Sequence[str] = ('qos',)
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.tenants:,} tenants'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with by_hand(broker) as queue:
            names = [f'tenant {number}' for number in range(self.tenants)]
            empty = queue.memory
            queue.fill(names)
            if self.tenants >= 1000:
                yield self._figure('memory a tenant with one task', (queue.memory - empty) / self.tenants, 'B')
            # Each is served a few times, and has some left.
            for _ in range(1 + 2 * self.number // self.tenants):
                queue.fill(names)
            some = [names[number * 7919 % self.tenants] for number in range(self.number)]

            def publish(tenants: Iterable[str]) -> None:
                for tenant in tenants:
                    queue.publish(tenant)

            yield self._per_task('publish', queue.micros(lambda: publish(some)))
            new = [f'new {number}' for number in range(self.number)]
            yield self._per_task('publish, a new tenant each', queue.micros(lambda: publish(new)))
            queue.hire()
            held = queue.read(PREFETCH)
            done = 0

            def work() -> None:
                nonlocal held, done
                while done < self.number:
                    done += len(held)
                    held = queue.settle_and_read(held)

            yield self._per_task('settle and read', queue.micros(work))

    def _per_task(self, name: str, micros: float) -> Figure:
        return self._figure(name, micros / self.number, 'us/task')

    def _figure(self, name: str, value: float, unit: str) -> Figure:
        return Figure(self.workload, self.name, name, 'qos', value, unit)


class Growth(NamedTuple):
    """What one more digit of tenants costs: the same with few and with many, one right after the other."""

    few: int
    many: int
    number: int
    workload: str = 'scale'
    brokers: Sequence[str] = ('qos',)
    once: bool = False

    @property
    def name(self) -> str:
        return f'{self.few:,} and {self.many:,} tenants'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        few = list(Backlog(self.few, self.number).measure(broker))
        broker.reset()
        many = list(Backlog(self.many, self.number).measure(broker))
        yield from few
        yield from many
        before = {figure.name: figure.value for figure in few if figure.unit == 'us/task'}
        for figure in many:
            if figure.name in before:
                yield figure._replace(name=f'{figure.name}, per {self.few:,} tenants',
                                      value=figure.value / before[figure.name], unit='x')


class Memory(NamedTuple):
    """What a task takes, and what a tenant leaves behind: no key, and no field of the settings."""

    #: Of tasks; what an idle tenant leaves is so little that it takes more of those.
    number: int
    workload: str = 'scale'
    brokers: Sequence[str] = ('qos',)
    once: bool = True

    @property
    def name(self) -> str:
        return f'memory, {self.number:,} tasks'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with by_hand(broker) as queue:
            idle = 5 * self.number
            # What the server grows to once is there before.
            self._run(queue, [f'earlier {number}' for number in range(idle)])
            empty = queue.memory
            queue.fill('one' for _ in range(self.number))
            yield self._figure('a task of many', (queue.memory - empty) / self.number, 'B')
            self._drain(queue)
            self._run(queue, [f'tenant {number}' for number in range(idle)])
            yield self._figure('an idle tenant', max(0, queue.memory - empty) / idle, 'B')
            settings = keys.settings(queue.store.namespace(QUEUE)).encode()
            left: list[Any] = list(queue.direct.scan_iter())
            if left != [settings]:
                raise BenchmarkError(f'an idle queue leaves {left}')
            named = [field for field in queue.direct.hkeys(settings) if b'tenant' in field]
            if named:
                raise BenchmarkError(f'an idle tenant leaves {named}')
            yield self._figure('an idle queue', queue.direct.memory_usage(settings) or 0, 'B')
            seen = queue.memory
            for number in range(self.number):
                queue.publish(f'tenant {number}')
            self._drain(queue)
            yield self._figure('a publication, until it is forgotten', (queue.memory - seen) / self.number, 'B')

    def _run(self, queue: Queue, tenants: list[str]) -> None:
        queue.fill(tenants)
        self._drain(queue)

    @staticmethod
    def _drain(queue: Queue) -> None:
        queue.hire(1000)
        while held := queue.read(1000):
            queue.store.settle(QUEUE, held)
        queue.store.release(QUEUE, CONSUMER)

    def _figure(self, name: str, value: float, unit: str) -> Figure:
        return Figure(self.workload, self.name, name, 'qos', value, unit)


class Server(NamedTuple):
    """A real publisher and a real worker: what the server does a task, on this and on other transports."""

    number: int
    workload: str = 'scale'
    brokers: Sequence[str] = ON_REDIS
    once: bool = False
    name: str = 'publisher and worker'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with wired(broker) as on_wire:
            publish = Publish(self.number, 680).counted(on_wire)
        broker.reset()
        with wired(broker) as on_wire:
            drain = Drain('solo', 1, PREFETCH, False, self.number, 680).counted(on_wire)
        for name, each in {'publish': publish, 'drain': drain}.items():
            yield self._figure(f'{name}, scripts and commands', each.micros, broker)
            yield self._figure(f'{name}, processor', each.processor, broker)
        yield self._figure('both, scripts and commands', publish.micros + drain.micros, broker)
        yield self._figure('both, processor', publish.processor + drain.processor, broker)

    def _figure(self, name: str, micros: float, broker: Broker) -> Figure:
        return Figure(self.workload, self.name, name, broker.name, micros / self.number, 'us/task')


class Longest(NamedTuple):
    """The longest call of what works on much at once: the server serves nobody else meanwhile."""

    #: One of `ACTS`.
    act: str
    number: int
    workload: str = 'scale'
    brokers: Sequence[str] = ('qos',)
    once: bool = True

    @property
    def name(self) -> str:
        return f'{self.act}, {self.number:,}'

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with by_hand(broker) as queue:
            act = ACTS[self.act](queue, self.number)
            yield Figure(self.workload, self.name, 'longest call', 'qos', queue.longest(act), 'ms')


Act = Callable[[], Any]


def _many_tenants(queue: Queue, number: int) -> None:
    queue.fill(f'tenant {each}' for each in range(number))


def _holding(queue: Queue, number: int) -> list[str]:
    """A worker that holds so many, of as many tenants."""
    _many_tenants(queue, number)
    queue.hire(number)
    return queue.read(number)


def _load(queue: Queue, number: int) -> Act:
    queue.direct.script_flush()
    return lambda: [queue.direct.script_load(script(name).source) for name in SCRIPTS[:number]]


def _hire(queue: Queue, number: int) -> Act:
    _many_tenants(queue, number)
    return lambda: queue.hire(number)


def _settle(queue: Queue, number: int) -> Act:
    held = _holding(queue, number)
    _many_tenants(queue, number)
    return lambda: queue.store.settle(QUEUE, held)


def _requeue(queue: Queue, number: int) -> Act:
    held = _holding(queue, number)
    return lambda: queue.store.requeue(QUEUE, held, True)


def _release(queue: Queue, number: int) -> Act:
    _holding(queue, number)
    return lambda: queue.store.release(QUEUE, CONSUMER)


def _reclaim(queue: Queue, number: int) -> Act:
    _holding(queue, number)
    return lambda: queue.store.reclaim(QUEUE, CONSUMER, [])


def _recover(queue: Queue, number: int) -> Act:
    _holding(queue, number)
    queue.direct.zadd(keys.leases(queue.store.namespace(QUEUE)), {CONSUMER: 0}, xx=True)
    return lambda: queue.sweep(number // 100 + 1)


def _purge(queue: Queue, number: int) -> Act:
    _many_tenants(queue, number)
    return lambda: queue.store.purge(QUEUE)


def _set(of: str, **options: Any) -> Callable[[Queue, int], Act]:
    def prepare(queue: Queue, number: int) -> Act:
        _many_tenants(queue, number)
        queue.hire()
        return lambda: queue.store.set(QUEUE, of, options)
    return prepare


def _resume(queue: Queue, number: int) -> Act:
    _many_tenants(queue, number)
    queue.store.set(QUEUE, 'default', {'paused': True})
    queue.hire()
    queue.sweep(2)
    return lambda: queue.store.set(QUEUE, 'default', {'paused': None})


def _sweep(queue: Queue, number: int) -> Act:
    _many_tenants(queue, number)
    queue.hire()
    return lambda: queue.sweep(10)


def _come_due(queue: Queue, number: int) -> Act:
    # Late enough that all are there before.
    due = time() + 1 + number / 5000
    queue.fill((f'tenant {each}' for each in range(number)), due_ms=int(due * 1000))
    queue.hire()
    sleep(max(0.0, due - time()))
    return lambda: queue.sweep(number // 100 + 1)


def _expired(queue: Queue, number: int) -> Act:
    soon = time() + 1 + number / 5000
    queue.fill((f'tenant {each}' for each in range(number)), expires_ms=int(soon * 1000))
    sleep(max(0.0, soon - time()))
    queue.hire()
    return lambda: queue.sweep(number // 100 + 1)


#: What is done, by name: a function of the queue and of how much there is, that returns the act itself.
ACTS: dict[str, Callable[[Queue, int], Act]] = {
    'load scripts': _load, 'worker comes with slots': _hire, 'settle at once': _settle, 'requeue at once': _requeue,
    'worker leaves with tasks': _release, 'worker reconnects with tasks': _reclaim, 'dead worker with tasks': _recover,
    'purge tenants': _purge, 'sweep with tenants': _sweep, 'delayed come due': _come_due, 'expired tasks': _expired,
    'set a weight, tenants': _set('tenant:tenant 1', weight=2),
    'set the default weight, tenants': _set('default', weight=2),
    'set the algorithm, tenants': _set('queue', algorithm='rr'), 'limit all, tenants': _set('default', max_in_flight=1),
    'pause all, tenants': _set('default', paused=True), 'resume all, tenants': _resume}


def cases(size: Size) -> Iterable[Any]:
    number = size.of(2000, 2000, 200)
    yield Backlog(1, number)
    yield Growth(10, size.of(100_000, 100_000, 1000), number)
    if size is not Size.SMOKE:
        yield Backlog(1000, number)
    if size is Size.FULL:
        yield Backlog(1_000_000, number)
    yield Memory(size.of(10_000, 10_000, 100))
    yield Server(size.of(5000, 2000, 100))
    yield Longest('load scripts', len(SCRIPTS))
    for act in list(ACTS)[1:4]:
        # No worker has more slots where Celery sets no limit, and no call names more tasks.
        yield Longest(act, size.of(1000, 1000, 100))
    for act in 'worker leaves with tasks', 'worker reconnects with tasks', 'dead worker with tasks':
        for number in (100, 1000):
            if size is not Size.SMOKE or number == 100:
                yield Longest(act, number)
    for act in 'delayed come due', 'expired tasks':
        yield Longest(act, size.of(10_000, 10_000, 500))
    for act in ACTS:
        if act.endswith('tenants'):
            yield Longest(act, size.of(100_000, 100_000, 500))
