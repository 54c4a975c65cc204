"""What is exact, whatever the machine: round trips, commands and bytes a task, and what an idle worker sends.

Clients go through a wire that counts. What a client does once (connections, scripts, queues), and what goes on without
tasks (leases, sweeps, events), is told apart from what is done for tasks.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from time import sleep
from typing import Any, NamedTuple

from celery import Celery
from redis import Redis

from .brokers import Broker, RedisBroker
from .figures import Figure, Size
from .load import load
from .records import Records
from .wire import Trips, Turn, Wired, server_micros
from .worker import Worker

__all__ = ('cases', 'Publish', 'Drain', 'Idle', 'Wakeups')

ON_REDIS = ('qos', 'redis', 'redis-plus')
#: Once a connection, or once a process; some are of Kombu's queues of remote control.
_ONCE = {'HELLO', 'AUTH', 'SELECT', 'INFO', 'CLIENT SETINFO', 'CLIENT SETNAME', 'CLIENT ID', 'CLIENT TRACKING',
         'SCRIPT LOAD', 'SCRIPT EXISTS', 'EVAL', 'SADD', 'SMEMBERS', 'declare', 'size', 'PSUBSCRIBE', 'SUBSCRIBE',
         'UNLOCK', 'LLEN', 'DEL'}
#: By the clock, tasks or none.
_CLOCK = {'PING', 'PUBLISH', 'lease', 'note_waits', 'sweep', 'BLPOP'}
#: The commands by which tasks come to a worker.
_READS = {'XREADGROUP', 'XREAD', 'take', 'BRPOP', 'BZMPOP', 'XAUTOCLAIM'}
#: Celery's own signs of life.
_EVENTS = {'PUBLISH'}


def for_tasks(turn: Turn) -> bool:
    return not any(name in _ONCE or name in _CLOCK for name in turn.commands)


def reads(turn: Turn) -> bool:
    return not _READS.isdisjoint(turn.commands)


def events(turn: Turn) -> bool:
    return not _EVENTS.isdisjoint(turn.commands)


def processor_micros(client: Redis) -> float:
    """Of the server's main thread since it was started."""
    used: Any = client.info('cpu')
    return 1e6 * (used['used_cpu_user_main_thread'] + used['used_cpu_sys_main_thread'])


def count_commands(client: Redis) -> int:
    """How many the server ran since its statistics were reset, those inside scripts and transactions included."""
    stats: Any = client.info('commandstats')
    return sum(row['calls'] for name, row in stats.items()
               if not name.startswith(('cmdstat_config', 'cmdstat_info')))


class Counted(NamedTuple):
    """What a number of tasks took, all together."""

    trips: Trips
    #: On the server, inside scripts and transactions too.
    commands: int
    #: Of the server's time, in us.
    micros: float
    #: Of its processor's, in us: that of reading and answering too.
    processor: float

    @classmethod
    def of(cls, client: Redis, processor_before: float, trips: Trips) -> Counted:
        """What the server's statistics say since they were reset."""
        processor = processor_micros(client) - processor_before
        return cls(trips, count_commands(client), server_micros(client, trips), processor)

    @property
    def for_tasks(self) -> Trips:
        return self.trips.of(for_tasks)


def wired(broker: Broker) -> Wired:
    """The wire in front of a broker that runs."""
    assert isinstance(broker, RedisBroker)
    return Wired(type(broker), broker.socket)


class Publish(NamedTuple):
    """One process, one producer held, no worker."""

    number: int
    #: Bytes of the argument.
    size: int
    workload: str = 'counts'
    brokers: Sequence[str] = ON_REDIS
    once: bool = True

    @property
    def name(self) -> str:
        return f'publish, {self.size // 1000} KB'

    def counted(self, broker: Wired) -> Counted:
        client = broker.client()
        # The server has the scripts then.
        load(broker, 'bulk', number=10, size=self.size)
        before = processor_micros(client)
        client.config_resetstat()
        with broker.wire.recording() as trips:
            load(broker, 'bulk', number=self.number, size=self.size)
        return Counted.of(client, before, trips)

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with wired(broker) as on_wire:
            found = self.counted(on_wire)
        trips = found.for_tasks
        rows = (('round trips', sum(trips.turns.values()), '/task'),
                ('server commands', found.commands, '/task'),
                ('bytes there', sum(trips.sent.values()), 'B/task'),
                ('bytes back', sum(trips.received.values()), 'B/task'))
        for name, value, unit in rows:
            yield Figure(self.workload, self.name, name, broker.name, value / self.number, unit)


class Drain(NamedTuple):
    """Workers, of one prefetch, run what was queued up before they came."""

    pool: str
    concurrency: int
    multiplier: int
    late: bool
    number: int
    #: Bytes of the argument.
    size: int = 1000
    workers: int = 1
    workload: str = 'counts'
    brokers: Sequence[str] = ON_REDIS
    once: bool = True

    @property
    def name(self) -> str:
        workers = f'{self.workers} workers, ' if self.workers > 1 else ''
        return (f'{workers}{self.pool}, prefetch {self.concurrency * self.multiplier}, '
                f'{"late" if self.late else "early"} ack{", 100 KB" if self.size == 100_000 else ""}')

    def counted(self, broker: Wired) -> Counted:
        client = broker.client()
        load(broker, 'bulk', number=self.number, size=self.size)
        with ExitStack() as stack:
            records = stack.enter_context(Records())
            workers = [stack.enter_context(Worker(
                broker, records, self.pool, self.concurrency, self.late, self.multiplier)) for _ in range(self.workers)]
            before = processor_micros(client)
            client.config_resetstat()
            with broker.wire.recording() as trips:
                for worker in workers:
                    worker.go()
                records.wait(self.number, 60, workers)
                # Until the last is settled, and nothing but reads goes on.
                sleep(0.3)
            return Counted.of(client, before, trips)

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with wired(broker) as on_wire:
            found = self.counted(on_wire)
        trips = found.for_tasks
        rows = (('round trips', sum(trips.turns.values()), '/task'),
                ('reads', sum(trips.of(reads).turns.values()), '/task'),
                ('server commands', found.commands, '/task'),
                ('bytes to the worker', sum(trips.received.values()), 'B/task'),
                ('bytes from it', sum(trips.sent.values()), 'B/task'))
        for name, value, unit in rows:
            yield Figure(self.workload, self.name, name, broker.name, value / self.number, unit)


class Idle(NamedTuple):
    """A worker of one queue with nothing to do."""

    seconds: float
    name: str = 'idle worker'
    workload: str = 'counts'
    brokers: Sequence[str] = ON_REDIS
    once: bool = True

    def counted(self, broker: Wired) -> Counted:
        client = broker.client()
        with Records() as records, Worker(broker, records) as worker:
            worker.go()
            # What it does at its start is done then.
            sleep(2)
            before = processor_micros(client)
            client.config_resetstat()
            with broker.wire.recording() as trips:
                sleep(self.seconds)
            return Counted.of(client, before, trips)

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with wired(broker) as on_wire:
            found = self.counted(on_wire)
        ours = found.trips.of(lambda turn: not events(turn))
        rows = (('commands', sum(ours.top_level.values()), '/s'),
                ('events', sum(found.trips.turns.values()) - sum(ours.turns.values()), '/s'),
                ('server commands', found.commands, '/s'),
                ('server time', found.micros, 'us/s'))
        for name, value, unit in rows:
            yield Figure(self.workload, self.name, name, broker.name, value / self.seconds, unit)


class Wakeups(NamedTuple):
    """Idle workers, and tasks published one at a time: how many reads are answered for each."""

    workers: int
    number: int
    workload: str = 'counts'
    brokers: Sequence[str] = ON_REDIS
    once: bool = True

    @property
    def name(self) -> str:
        return f'{self.workers} idle workers'

    def counted(self, broker: Wired) -> Counted:
        app = Celery('publisher', broker=broker.url, set_as_current=False)
        app.conf.broker_transport = broker.transport or None
        options = {'tenant': 'a'} if broker.has_tenants else {}
        client = broker.client()
        with ExitStack() as stack:
            records = stack.enter_context(Records())
            workers = [stack.enter_context(Worker(broker, records)) for _ in range(self.workers)]
            for worker in workers:
                worker.go()
            producer = stack.enter_context(app.producer_pool.acquire(block=True))
            sleep(1)
            before = processor_micros(client)
            client.config_resetstat()
            with broker.wire.recording() as trips:
                for number in range(self.number):
                    app.send_task('benchmarks.app.noop', ('a', number), producer=producer, **options)
                    records.wait(number + 1, 20, workers)
                sleep(0.1)
            app.close()
            return Counted.of(client, before, trips)

    def measure(self, broker: Broker) -> Iterator[Figure]:
        with wired(broker) as on_wire:
            found = self.counted(on_wire)
        yield Figure(self.workload, self.name, 'reads', broker.name,
                     sum(found.trips.of(reads).turns.values()) / self.number, '/task')


def cases(size: Size) -> Iterable[Any]:
    number = size.of(2000, 400, 100)
    yield Publish(number, 1_000)
    if size is Size.SMOKE:
        yield Drain('solo', 2, 4, False, number)
        return
    yield Publish(max(number // 10, 50), 100_000)
    for pool in ('solo', 'threads', 'gevent', 'prefork'):
        for late in False, True:
            yield Drain(pool, 1, 1, late, number)
            yield Drain(pool, 2, 4, late, number)
    yield Drain('solo', 2, 4, False, number, workers=4)
    yield Drain('solo', 2, 4, False, max(number // 10, 50), 100_000)
    yield Idle(20.0 if size is Size.FULL else 10.0)
    yield Wakeups(4, 400 if size is Size.FULL else 100)
