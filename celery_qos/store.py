"""The waist between Python and Redis: one typed method per script; nothing else calls Lua or spells a key."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, Optional, Union

from redis import Redis
from redis.exceptions import NoPermissionError

from . import keys
from .errors import SchemaMismatch, UnsupportedServer
from .scripts import script

__all__ = ('Store', 'Delivery', 'Recovery', 'SCHEMA_VERSION', 'MINIMUM_SERVER')

#: Version of the layout of the keys; a queue stored with another one is refused.
SCHEMA_VERSION = '1'
#: The oldest Redis that has what the scripts use: HRANDFIELD, and ranges of streams that leave out their first id.
MINIMUM_SERVER = (6, 2)
#: Ids per call, below the number of values that Lua can unpack.
_IDS_PER_CALL = 1000
#: Spelled namespaces that are kept.
_MAX_NAMESPACES = 1000

Fields = Mapping[str, Union[str, bytes]]


class Delivery(NamedTuple):
    """A task as it lies in egress."""

    queue: str
    entry_id: str
    fields: dict[bytes, bytes]


class Recovery(NamedTuple):
    """What a sweep did with a consumer whose lease had ended."""

    consumer: str
    tasks: int
    done: bool


class Store:
    """The queues of one Redis database.

    Arguments:
        client: a client that returns bytes.
        prefix: what every key begins with, inside its hash tag.
    """

    def __init__(self, client: Redis, prefix: str = '') -> None:
        self.client = client
        self.prefix = prefix
        self._namespaces: dict[str, str] = {}

    def namespace(self, queue: str) -> str:
        try:
            return self._namespaces[queue]
        except KeyError:
            if len(self._namespaces) > _MAX_NAMESPACES:
                # Every reply queue has a name of its own.
                self._namespaces.clear()
            return self._namespaces.setdefault(queue, keys.namespace(queue, self.prefix))

    def _run(self, name: str, queue: str, *args):
        return script(name)(self.client, [self.namespace(queue)], *args)

    # -- the server and the queue

    def check_server(self) -> None:
        """Raise `UnsupportedServer` where the server is too old. A user without the right to ask is trusted."""
        try:
            version = str(self.client.info('server')['redis_version'])
        except NoPermissionError:
            return
        if tuple(int(part) for part in version.split('.')[:2]) < MINIMUM_SERVER:
            needed = '.'.join(map(str, MINIMUM_SERVER))
            raise UnsupportedServer(f'the Redis server is version {version}; celery-qos needs {needed} or newer')

    def declare(self, queue: str, fingerprint: str = '', settings: Optional[Mapping[str, float]] = None) -> None:
        """Make the queue known and store what its config says.

        Arguments:
            fingerprint: identifies the config; '' leaves what another process stored.
            settings: field and value of the settings hash.

        Raises:
            SchemaMismatch: the queue's keys follow another layout.
        """
        pairs = [part for pair in (settings or {}).items() for part in pair]
        stored = self._run('declare', queue, SCHEMA_VERSION, fingerprint, *pairs).decode()
        if stored != SCHEMA_VERSION:
            raise SchemaMismatch(queue, stored, SCHEMA_VERSION)

    def size(self, queue: str) -> Optional[int]:
        """Tasks that no worker holds yet, or None where there is no such queue."""
        size = self._run('size', queue)
        return None if size < 0 else size

    def purge(self, queue: str) -> int:
        """Delete the tasks that no worker holds yet; returns how many."""
        total, done = 0, 0
        while not done:
            purged, done = self._run('purge', queue)
            total += purged
        return total

    def delete(self, queue: str, if_unused: bool = False) -> bool:
        """Delete the queue and its settings; False where `if_unused` kept it."""
        if if_unused and self.client.exists(keys.slots(self.namespace(queue))):
            return False
        self.purge(queue)
        return bool(self._run('delete', queue, int(if_unused)))

    # -- tasks

    def enqueue(self, queue: str, tenant: str, priority: int, fields: Fields) -> bool:
        """Put a task into its tenant's stream and dispatch; True where nobody waited and it is in egress now.

        Arguments:
            priority: 0 to 9; 0 is served first.
        """
        if not 0 <= priority <= 9:
            raise ValueError(f'priority {priority!r} is not 0 to 9')
        pairs = [part for pair in fields.items() for part in pair]
        return bool(self._run('enqueue', queue, tenant, priority, *pairs))

    def settle(self, queue: str, ids: Iterable[str]) -> int:
        """Remove finished tasks from egress and dispatch; returns how many were there."""
        return sum(self._run('settle', queue, *some) for some in _batches(ids))

    def requeue(self, queue: str, ids: Iterable[str], counted: bool) -> int:
        """Put delivered tasks back into egress; `counted` where the delivery failed. Returns how many."""
        return sum(self._run('requeue', queue, int(counted), *some) for some in _batches(ids))

    def get(self, queue: str, consumer: str, slots: int, lease_seconds: float) -> Optional[Delivery]:
        """Deliver one task without waiting. `slots`: the consumer's, with one for this task."""
        entry = self._run('get', queue, consumer, slots, _ms(lease_seconds))
        return entry and _delivery(queue, entry[0], entry[1])

    def waiting(self, queue: str) -> dict[str, int]:
        """Tasks that wait in their tenants' streams, by tenant; tenants without any are left out."""
        found: Any = self.client.hgetall(keys.waiting(self.namespace(queue)))
        return {tenant.decode(): int(count) for tenant, count in found.items()}

    # -- workers

    def lease(self, queue: str, consumer: str, slots: int, lease_seconds: float) -> tuple[bool, int]:
        """Register a consumer or renew its lease.

        Returns:
            Whether it had no lease before; and, where `slots` is 0, how many tasks it has not settled (with none
            left its lease is given up).
        """
        new, unsettled = self._run('lease', queue, consumer, slots, _ms(lease_seconds))
        return bool(new), unsettled

    def release(self, queue: str, consumer: str) -> int:
        """A consumer leaves for good; returns how many tasks it handed back."""
        total, done = 0, 0
        while not done:
            moved, done = self._run('release', queue, consumer)
            total += moved
        return total

    def reclaim(self, queue: str, consumer: str, held: Iterable[str]) -> int:
        """Deliver again what `consumer` was sent and does not hold; returns how many."""
        return self._run('reclaim', queue, consumer, *held)

    def sweep(self, queue: str, lease_seconds: float) -> list[Recovery]:
        """Deliver the tasks of dead workers again and dispatch."""
        flat = iter(self._run('sweep', queue, _ms(lease_seconds)))
        return [Recovery(consumer.decode(), tasks, bool(done)) for consumer, tasks, done in zip(flat, flat, flat)]

    # -- weights

    def set_weight(self, queue: str, tenant: str, weight: Optional[float]) -> None:
        """Set a tenant's weight at run time; None goes back to what the config says. Acts on waiting tasks at once."""
        self._run('weight', queue, tenant, '' if weight is None else repr(float(weight)))

    def weight(self, queue: str, tenant: str) -> float:
        """The weight in force: set at run time, else the config's, else its default, else 1."""
        fields = [f'set:weight:{tenant}', f'weight:{tenant}', 'default:weight']
        found = self.client.hmget(keys.settings(self.namespace(queue)), fields)
        return float(next((value for value in found if value is not None), 1))

    # -- Kombu's own reply queues

    def mark_transient(self, queue: str, ttl_ms: int) -> None:
        self.client.set(keys.transient(self.namespace(queue)), ttl_ms, px=ttl_ms)

    def keep_transient(self, queue: str, ttl_ms: int) -> None:
        """Have the mark last; done where memory is full too, unless it has lapsed."""
        if not self.client.pexpire(keys.transient(self.namespace(queue)), ttl_ms):
            self.mark_transient(queue, ttl_ms)

    def unmark_transient(self, queue: str) -> None:
        self.client.delete(keys.transient(self.namespace(queue)))

    def transient_ttl_ms(self, queue: str) -> Optional[int]:
        """How long a reply queue's messages are kept, or None where the queue is not one of Kombu's own."""
        value = self.client.get(keys.transient(self.namespace(queue)))
        return None if value is None else int(value)

    # -- the event loop's reader, which sends and parses by itself

    def read_command(self, queues: list[str], consumer: str, count: int, block_ms: int) -> list:
        """Wait for tasks: at most `count` of each queue."""
        streams = [keys.egress(self.namespace(queue)) for queue in queues]
        return ['XREADGROUP', 'GROUP', keys.GROUP, consumer, 'COUNT', count, 'BLOCK', block_ms,
                'STREAMS', *streams, *['>'] * len(streams)]

    def wait_command(self, seen: Mapping[str, str], block_ms: int) -> list:
        """Wait until a queue's egress has an entry past the id given for it; takes nothing."""
        streams = [keys.egress(self.namespace(queue)) for queue in seen]
        return ['XREAD', 'COUNT', 1, 'BLOCK', block_ms, 'STREAMS', *streams, *seen.values()]

    def unblock(self, connection_id: int) -> None:
        """Have a blocked read answered at once, with nothing; without the right to, it ends by itself."""
        try:
            self.client.client_unblock(connection_id)
        except NoPermissionError:
            pass

    def take(self, queues: list[str], consumer: str, count: int) -> list[Delivery]:
        """Deliver at most `count` tasks in all, without waiting."""
        streams = [keys.egress(self.namespace(queue)) for queue in queues]
        return self.parse_read(queues, script('take')(self.client, streams, keys.GROUP, consumer, count))

    def parse_read(self, queues: list[str], reply) -> list[Delivery]:
        """The deliveries in a reply to `read_command`, by queue."""
        by_stream = {keys.egress(self.namespace(queue)).encode(): queue for queue in queues}
        return [_delivery(by_stream[stream], entry_id, fields)
                for stream, entries in reply or () for entry_id, fields in entries]


def _delivery(queue: str, entry_id: bytes, flat: list[bytes]) -> Delivery:
    pairs = iter(flat)
    return Delivery(queue, entry_id.decode(), dict(zip(pairs, pairs)))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _IDS_PER_CALL)):
        yield some
