"""A queue worked by hand: tasks are numbers, workers are names."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from typing import Any, NamedTuple, Optional

from redis import ConnectionPool, Redis

from celery_qos import keys
from celery_qos.config import QoS
from celery_qos.store import FORGET, Delivery, Recovery, Store, Tracked

__all__ = ('Hand', 'Entry', 'commands_of')


class Entry(NamedTuple):
    """What egress holds of a task, and who holds the task."""

    entry_id: str
    number: int
    owner: Optional[str]
    redelivered: bool
    failures: int


class Hand:
    """Arguments: the store, and the name of the queue."""

    def __init__(self, store: Store, queue: str = 'q') -> None:
        self.store, self.redis, self.queue = store, store.client, queue
        self.ns = store.namespace(queue)
        self.numbers = count(1)
        options = {**self.redis.connection_pool.connection_kwargs, 'protocol': 2}
        pool = ConnectionPool(connection_class=self.redis.connection_pool.connection_class, **options)
        self.reader = Redis(connection_pool=pool, single_connection_client=True)

    # -- acts

    def put(self, tenant: str = 'a', times: int = 1, priority: int = 5, **kwargs: Any) -> int:
        """Publish; returns the last task's number."""
        number = 0
        for number in islice(self.numbers, times):
            self.store.enqueue(self.queue, tenant, priority, {'number': str(number), 'tenant': tenant}, **kwargs)
        return number

    def hire(self, consumer: str = 'w', slots: int = 1, seconds: float = 600) -> tuple[bool, int]:
        return self.store.lease(self.queue, consumer, slots, seconds)

    def read(self, consumer: str = 'w', at_most: int = 1000) -> list[Delivery]:
        """As the event loop does, but without waiting."""
        self.reader.connection.send_command(*self.store.read_command([self.queue], consumer, at_most))
        return self.store.parse_read([self.queue], self.reader.connection.read_response())

    def settle(self, *deliveries: Delivery) -> int:
        return self.store.settle(self.queue, [delivery.entry_id for delivery in deliveries])

    def requeue(self, *deliveries: Delivery, counted: bool = True) -> int:
        return self.store.requeue(self.queue, [delivery.entry_id for delivery in deliveries], counted)

    def finish(self, *deliveries: Delivery, seconds: Optional[float] = None, consumer: str = 'w') -> int:
        """As a worker does where the delivery is tracked, else as `settle`."""
        tracked = [self.tracked(delivery, seconds) for delivery in deliveries if b'tracked' in delivery.fields]
        others = [delivery for delivery in deliveries if b'tracked' not in delivery.fields]
        return self.store.finished(self.queue, consumer, tracked) + self.settle(*others)

    def start(self, *deliveries: Delivery, consumer: str = 'w') -> int:
        """Acknowledge tracked deliveries early."""
        return self.store.started(self.queue, consumer, [self.tracked(delivery) for delivery in deliveries])

    def tracked(self, delivery: Delivery, seconds: Optional[float] = None) -> Tracked:
        fields = {name: value.decode() for name, value in delivery.fields.items()}
        return Tracked(delivery.entry_id, fields.get(b'sub', ''), fields[b'tenant'], fields[b'tracked'], seconds)

    def configure(self, qos: QoS, force: bool = False) -> None:
        self.store.declare(self.queue, qos.fingerprint, qos.stored, qos.structure, force)

    def set_tenant(self, tenant: str, **options: Any) -> None:
        self.store.set(self.queue, f'tenant:{tenant}', options)

    def set_weight(self, tenant: str, weight: Optional[float]) -> None:
        self.set_tenant(tenant, weight=FORGET if weight is None else weight)

    def weight(self, tenant: str) -> float:
        return self.store.settings(self.queue, f'tenant:{tenant}').get('weight', 1)

    def sweep(self, seconds: float = 600) -> list[Recovery]:
        return list(self.store.sweep(self.queue, seconds, 'sweeper').recoveries)

    def end_lease(self, consumer: str = 'w') -> None:
        """As if its time were over."""
        self.redis.zadd(keys.leases(self.ns), {consumer: 0}, xx=True)

    def turns(self) -> Iterator[str]:
        """The tenants in the order they are served, each task settled before the next one is read."""
        while read := self.read(at_most=1):
            self.finish(*read)
            yield read[0].fields[b'tenant'].decode()

    def serve(self, turns: int) -> list[str]:
        return list(islice(self.turns(), turns))

    # -- what is there

    def egress(self) -> list[Entry]:
        """Of all its streams, one after the other."""
        shards = int(self.redis.hget(keys.settings(self.ns), 'shards') or 1)
        return [entry for stream in range(shards) for entry in self._egress(stream)]

    def _egress(self, stream: int) -> list[Entry]:
        owners, key, prefix = {}, keys.egress(self.ns, stream), f'{stream}:' if stream else ''
        if self.redis.exists(key) and self.redis.xinfo_groups(key):
            for row in self.redis.xpending_range(key, keys.GROUP, '-', '+', 10_000):
                owners[row['message_id']] = row['consumer'].decode()
        return [Entry(prefix + entry_id.decode(), number_of(fields), owners.get(entry_id), b'redelivered' in fields,
                      int(fields.get(b'deliveries', 0)))
                for entry_id, fields in self.redis.xrange(key)]

    def in_egress(self) -> list[int]:
        return [entry.number for entry in self.egress()]

    def waiting(self, tenant: str = 'a', priority: int = 5) -> list[int]:
        return [number_of(fields) for _, fields in self.redis.xrange(keys.tenant_stream(self.ns, tenant, priority))]

    def consumers(self) -> set[str]:
        return {row['name'].decode() for row in self.redis.xinfo_consumers(keys.egress(self.ns), keys.GROUP)}

    def all_keys(self) -> set[str]:
        """Keys in the database, each without the queue's namespace."""
        return {key.decode().removeprefix(f'{self.ns}:') for key in self.redis.keys()}

    def state(self) -> dict[str, float]:
        """What is counted in it, and the tags."""
        return {name.decode(): float(value) for name, value in self.redis.hgetall(keys.state(self.ns)).items()
                if name not in (b'plain', b'published')}


def number_of(fields: dict[bytes, bytes]) -> int:
    return int(fields[b'number'])


def commands_of(redis, act) -> Counter:
    """How many commands of each kind the server runs for `act`, those in scripts included, but not those of a new
    connection, or that send a script for the first time."""
    redis.config_resetstat()
    act()
    others = tuple(f'cmdstat_{name}' for name in ('config', 'info', 'hello', 'client'))
    return Counter({name.removeprefix('cmdstat_'): row['calls'] for name, row in redis.info('commandstats').items()
                    if not name.startswith(others) and name != 'cmdstat_eval'})
