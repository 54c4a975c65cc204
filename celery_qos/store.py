"""The waist between Python and Redis: one typed method per script; nothing else calls Lua or spells a key."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from math import inf
from time import monotonic
from typing import Any, NamedTuple, Optional, Union

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from . import keys
from .checks import hint
from .clock import ServerClock
from .errors import ConfigError, QoSError, QueueFull, SchemaMismatch, UnsupportedServer
from .notices import Notices
from .publication import Publication
from .scripts import WritesRefused, script, unavailable
from .wire import Wire

__all__ = ('Store', 'Delivery', 'Delayed', 'Recovery', 'Sweep', 'Tracked', 'SCHEMA_VERSION',
           'MINIMUM_SERVER')

#: Version of the layout of the keys; a queue stored with another one is refused.
SCHEMA_VERSION = '3'
#: The oldest Redis that has what the scripts use: HRANDFIELD, and ranges of streams that leave out their first id.
MINIMUM_SERVER = (6, 2)
#: Ids per call: others wait while the server works on it. Settling one, the next is dispatched.
IDS_PER_CALL = 40
#: The same where the server has more to do for each.
_SLOW_IDS_PER_CALL = 12
#: Fields of a hash that one call looks at.
_SCANNED_PER_CALL = 1000
#: Counts of waits per call.
WAITS_PER_CALL = 200
#: So often a worker has what one call left over done, before it leaves it to the sweep.
_MOST_ROUNDS = 100
#: Spelled namespaces that are kept.
_MAX_NAMESPACES = 1000

#: Databases whose server refused a write lately, by `Store.identity`.
_refusing: set[tuple] = set()


class Delivery(NamedTuple):
    """A task as it lies in egress."""

    queue: str
    #: Names the entry within the queue; those of streams of egress past the first begin with the stream's number.
    entry_id: str
    fields: dict[bytes, bytes]

    @property
    def stream(self) -> int:
        """The number of the stream of egress."""
        number, colon, _ = self.entry_id.partition(':')
        return int(number) if colon else 0


class Tracked(NamedTuple):
    """A delivery whose end has to be reported: a limit counts it, or its tenant pays for the time that it took."""

    entry_id: str
    sub_queue: str
    tenant: str
    #: Seconds that it was taken to last when it was dispatched, as the entry has it.
    cost: str
    #: Seconds that it took; None where nobody knows.
    seconds: Optional[float] = None


class Delayed(NamedTuple):
    """A task that waits for its time."""

    #: Tells it apart from all others.
    place: str
    due_ms: int
    tenant: str
    #: The one that it names.
    sub_queue: str
    fields: dict[bytes, bytes]


class Recovery(NamedTuple):
    """What a sweep did with a consumer whose lease had ended."""

    consumer: str
    #: Tasks that are delivered again.
    tasks: int
    #: Tasks that became dead letters, as that was too often in vain.
    died: int
    #: False where there are more.
    done: bool


class Sweep(NamedTuple):
    """What one iteration of a sweep loop did, and what the loop has to know."""

    #: Whether this sweeper is one of those that loop.
    holds: bool
    #: Tasks that were dispatched or are delivered again.
    moved: int = 0
    #: In how many ms something is due; None where nothing is.
    due_ms: Optional[int] = None
    idle_threshold: int = 1
    #: In seconds.
    idle_timeout: float = 10.0
    #: Tasks that will not run, of which Celery is to be told.
    discarded: int = 0
    recoveries: tuple[Recovery, ...] = ()


class Store:
    """The queues of one Redis database.

    Arguments:
        client: a client that returns bytes.
        prefix: what every key begins with, inside its hash tag.
    """

    def __init__(self, client: Redis, prefix: str = '') -> None:
        self.client = client
        self._wire = Wire(client)
        self.prefix = prefix
        self._namespaces: dict[str, str] = {}
        #: Queue to its number of streams of egress, as the server said last.
        self._streams: dict[str, int] = {}
        #: What leases tell of the server's clock.
        self.clock = ServerClock()
        self._notices = Notices()

    def namespace(self, queue: str) -> str:
        try:
            return self._namespaces[queue]
        except KeyError:
            if len(self._namespaces) > _MAX_NAMESPACES:
                # Every reply queue has a name of its own.
                self._namespaces.clear()
            return self._namespaces.setdefault(queue, keys.namespace(queue, self.prefix))

    @property
    def identity(self) -> tuple:
        """Tells the database, and the prefix, apart from all others."""
        options = self.client.get_connection_kwargs()
        names = 'host', 'port', 'path', 'db', 'username', 'service_name'
        return self.prefix, *(str(options.get(name)) for name in names)

    def run(self, name: str, queue: str, *args):
        try:
            return script(name)(self.client, [self.namespace(queue)], *args)
        except (ReadOnlyError, WritesRefused):
            self.note_refusal()
            raise

    def note_refusal(self) -> None:
        """The server refused a write: new connections ask whether it still does, so that who reconnects waits."""
        _refusing.add(self.identity)

    # -- the server and the queue

    def check_server(self) -> None:
        """Raise `UnsupportedServer` where the server is too old. A user without the right to ask is trusted.

        Raises:
            RedisError: it refused a write lately, being a replica or for a reason of its own, and still does.
        """
        if self.identity in _refusing:
            try:
                self.client.delete(f'{self.namespace("")}:probe')
            except NoPermissionError:
                pass
            except ResponseError as exc:
                if refusal := unavailable(exc):
                    raise refusal from exc
                raise
            _refusing.discard(self.identity)
        try:
            version = str(self.client.info('server')['redis_version'])
        except NoPermissionError:
            return
        if tuple(int(part) for part in version.split('.')[:2]) < MINIMUM_SERVER:
            needed = '.'.join(map(str, MINIMUM_SERVER))
            raise UnsupportedServer(f'the Redis server is version {version}; celery-qos needs {needed} or newer')

    def declare(self, queue: str, fingerprint: str = '', settings: Optional[Mapping[str, str]] = None,
                structure: Optional[Mapping[str, Any]] = None, force: bool = False) -> None:
        """Make the queue known and store what its config says.

        Arguments:
            fingerprint: identifies the config; '' leaves what another process stored.
            settings: field and value of the settings hash.
            structure: what every process that uses the queue must agree on.
            force: have it prevail over another structure that is at work.

        Raises:
            SchemaMismatch: the queue's keys follow another layout.
            ConfigError: the queue is at work with another structure.
        """
        pairs = [part for pair in (settings or {}).items() for part in pair]
        left = _WAITS
        while left == _WAITS:
            stored, streams, left, *contradicted = self.run(
                'declare', queue, SCHEMA_VERSION, fingerprint, json.dumps(structure or {}), int(force), *pairs)
        if stored.decode() != SCHEMA_VERSION:
            raise SchemaMismatch(queue, stored.decode(), SCHEMA_VERSION)
        self._streams[queue] = streams
        if contradicted:
            raise ConfigError(_contradiction(queue, options_of(contradicted[0]) or {}, structure or {}))
        self._finish(queue, left)

    def _finish(self, queue: str, left: int, rounds: Iterable[Any] = repeat(None)) -> None:
        """Go on with what a call left over, for so many rounds; after that, the sweep does."""
        for _ in rounds:
            if not left:
                break
            left = self.run('fill', queue)

    def is_configured(self, queue: str) -> bool:
        """Whether any process's config of it is stored."""
        return bool(self.client.hexists(keys.settings(self.namespace(queue)), 'config'))

    def streams(self, queue: str) -> int:
        """How many streams the queue's egress has, as far as this store was told, or one that it shares with."""
        return self._streams.get(queue, 1)

    def share_streams(self, other: Store) -> None:
        """Have this store and `other`, of the same database, know what either is told."""
        other._streams.update(self._streams)
        self._streams, self.clock = other._streams, other.clock

    def size(self, queue: str) -> Optional[int]:
        """Tasks that no worker holds yet, or None where there is no such queue."""
        size = self.run('size', queue)
        return None if size < 0 else size

    def purge(self, queue: str, on_progress: Callable[[int], None] = lambda count: None) -> int:
        """Delete the tasks that no worker holds yet; returns how many.

        Arguments:
            on_progress: called with how many more were deleted, now and then. What it raises ends the purge.
        """
        total, done = 0, 0
        while not done:
            purged, done = self.run('purge', queue)
            total += purged
            on_progress(purged)
        return total

    def purge_tenant(self, queue: str, tenant: str, on_progress: Callable[[int], None] = lambda count: None) -> int:
        """As `purge`, of what waits in the streams of a tenant and of those inside it."""
        total = 0
        for ids in batches(self._ids_of(queue, tenant), _SLOW_IDS_PER_CALL):
            purged = self.run('purge_tenant', queue, *map(to_bytes, ids))
            total += purged
            on_progress(purged)
        return total

    def _ids_of(self, queue: str, tenant: str) -> Iterator[str]:
        """The ids of a tenant in all sub-queues, and those of the tenants inside it that have tasks."""
        ns = self.namespace(queue)
        for sub_queue in self.every_sub_queue(queue):
            yield keys.tenant_id(tenant, sub_queue)
        if self.client.hexists(keys.state(ns), 'nested'):
            inside = '*:' + re.sub(r'([][*?\\])', r'\\\1', tenant) + keys.PART + '*'
            for each, _ in self.client.hscan_iter(keys.waiting(ns), to_bytes(inside), count=_SCANNED_PER_CALL):
                if to_text(each).partition(':')[2].startswith(tenant + keys.PART):
                    yield to_text(each)

    def every_sub_queue(self, queue: str) -> list[str]:
        """The implicit one, the declared ones, and those that are declared no longer but may have tasks."""
        former: Any = self.client.hget(keys.settings(self.namespace(queue)), 'former')
        return list(dict.fromkeys(['', *self.sub_queues(queue), *map(str, _list(former))]))

    def delete(self, queue: str, if_unused: bool = False) -> bool:
        """Delete the queue and its settings; False where `if_unused` kept it."""
        if if_unused and self.client.exists(keys.slots(self.namespace(queue))):
            return False
        self.purge(queue)
        return bool(self.run('delete', queue, int(if_unused)))

    # -- tasks

    def enqueue(self, *args: Any, **kwargs: Any) -> str:
        """Put a task into its tenant's stream and dispatch. The arguments are those of a `Publication`.

        Returns:
            What became of it: ``egress``, ``waits``, ``delayed``, ``expired``, ``seen`` where the message had been
            published before, ``dropped`` where the tenant's oldest task went for it, ``full`` where it is a dead
            letter.

        Raises:
            QueueFull: the tenant or the sub-queue has as many waiting as it may.
            ConfigError: there is no such sub-queue.
            SchemaMismatch: the queue's keys follow another layout.
        """
        outcome, = self.enqueue_all([Publication(*args, **kwargs)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def enqueue_all(self, publications: Sequence[Publication]) -> list[Union[str, Exception]]:
        """Enqueue several tasks in one round trip.

        Returns:
            Of each what became of it, or the error, as `enqueue` has them.

        Raises:
            redis.ConnectionError, redis.TimeoutError: it is not known which of them are in their queue. With their
                message ids they can be enqueued again.
        """
        enqueue = script('enqueue')
        calls = [([self.namespace(each.queue)], each.arguments) for each in publications]
        try:
            replies = enqueue.batch(self._wire, calls)
        except (RedisConnectionError, RedisTimeoutError):
            # The connection may have been idle for too long.
            replies = enqueue.batch(self._wire, calls)
        return [self._outcome(each, reply) for each, reply in zip(publications, replies)]

    def _outcome(self, publication: Publication, reply: Any) -> Union[str, Exception]:
        queue, tenant, sub_queue = publication.queue, publication.tenant, publication.sub_queue
        if isinstance(reply, (ReadOnlyError, WritesRefused)):
            self.note_refusal()
        if isinstance(reply, Exception):
            return reply
        outcome = (reply[0] if isinstance(reply, list) else reply).decode()
        if outcome == 'schema':
            return SchemaMismatch(queue, reply[1].decode(errors='replace'), SCHEMA_VERSION)
        if outcome == 'unknown':
            return ConfigError(_unknown_sub_queue(queue, sub_queue, [name.decode() for name in reply[1:]]))
        if outcome == 'full':
            full = QueueFull(queue, reply[2].decode(), tenant, reply[3])
            if reply[1] != b'dead-letter':
                return full
            self._notices.warn((queue, tenant), '%s; the new task is in the dead letters', full)
        elif outcome == 'dropped':
            text = 'queue %r: tenant %r is full, its oldest task was dropped'
            self._notices.warn((queue, tenant), text, queue, tenant)
        return outcome

    def settle(self, queue: str, ids: Iterable[str]) -> int:
        """Remove finished tasks from egress and dispatch; returns how many were there."""
        return sum(self.run('settle', queue, *some) for some in batches(ids))

    def settle_command(self, queue: str, ids: list[str]) -> list:
        """As `settle`, for who sends it by themselves: at most `IDS_PER_CALL`. A server may not know the script yet."""
        return ['EVALSHA', script('settle').sha, 1, self.namespace(queue), *ids]

    def started(self, queue: str, consumer: str, tasks: Iterable[Tracked], lease_seconds: float = 60.0) -> int:
        """Tracked tasks were acknowledged at their start: their slots are free, they stay in flight until `finished`.

        Arguments:
            lease_seconds: of the lease that a consumer gets which has none any more.
        """
        return sum(self.run('started', queue, consumer, _ms(lease_seconds), *[
            part for task in some for part in (task.entry_id, task.sub_queue, task.tenant)])
            for some in batches(tasks, _SLOW_IDS_PER_CALL))

    def finished(self, queue: str, consumer: str, tasks: Iterable[Tracked]) -> int:
        """Tracked tasks have ended, whether acknowledged before or not; dispatches. Returns how many were in flight."""
        return sum(self.run('finished', queue, consumer, *[
            part for task in some for part in (
                task.entry_id, task.sub_queue, task.tenant, task.cost, '' if task.seconds is None else task.seconds)])
            for some in batches(tasks, _SLOW_IDS_PER_CALL))

    def requeue(self, queue: str, ids: Iterable[str], counted: bool) -> int:
        """Put delivered tasks back into egress; `counted` where the delivery failed, so that the task is a dead letter
        when that was too often. Returns how many went back."""
        total = 0
        for some in batches(ids):
            moved, died = self.run('requeue', queue, int(counted), *some)
            total += moved
            self._note_dead(queue, died)
        return total

    def _note_dead(self, queue: str, count: int) -> None:
        """Say in the log that tasks were delivered in vain too often."""
        if count:
            self._notices.warn((queue, 'dead'), 'queue %r: %d tasks were delivered max_deliveries times in vain; they '
                               'are in the dead letters', queue, count)

    def bury(self, queue: str, ids: Iterable[str], reason: str) -> int:
        """Put delivered tasks among the dead letters; returns how many were there."""
        return sum(self.run('bury', queue, reason, *some) for some in batches(ids))

    def get(self, queue: str, consumer: str, slots: int, lease_seconds: float) -> Optional[Delivery]:
        """Deliver one task without waiting. `slots`: the consumer's, with one for this task."""
        for _ in range(_MOST_ROUNDS):
            entry = self.run('get', queue, consumer, slots, _ms(lease_seconds))
            if entry != []:
                break
        return entry and _delivery(queue, entry[0].decode(), entry[1])

    def waiting(self, queue: str) -> dict[str, int]:
        """Tasks that wait in tenants' streams, by tenant; where there are sub-queues, by ``sub-queue:tenant``."""
        found: Any = self.client.hgetall(keys.waiting(self.namespace(queue)))
        ids = {to_text(each): int(count) for each, count in found.items() if b':' in each and count.isdigit()}
        return {each.removeprefix(':'): count for each, count in ids.items()}

    def count_waiting(self, queue: str, tenant: str) -> int:
        """Tasks that wait in the streams of a tenant and of those inside it."""
        return self._sum_waiting(queue, [keys.tenant_id(tenant, each) for each in self.every_sub_queue(queue)])

    def count_waiting_in(self, queue: str, sub_queue: str) -> int:
        """Tasks that wait in a sub-queue."""
        return self._sum_waiting(queue, [sub_queue])

    def _sum_waiting(self, queue: str, ids: list[str]) -> int:
        found: Any = self.client.hmget(keys.waiting(self.namespace(queue)), list(map(to_bytes, ids)))
        return sum(int(count) for count in found if count and count.isdigit())

    def peek(self, queue: str, tenant_id: str, priority: int, after: str, count: int) -> list[tuple[str, bytes, bytes]]:
        """Entry id, headers and properties of a tenant's waiting tasks past the one of this entry, oldest first; fewer
        than `count` where they are large, none only where there are no more."""
        found = self.run('peek', queue, to_bytes(tenant_id), priority, after, count)
        return [(entry_id.decode(), headers, properties) for entry_id, headers, properties in found]

    def move(self, queue: str, tenant_id: str, priority: int, to: tuple[str, str, str],
             tasks: Sequence[tuple[str, str, str]], force: bool, only_look: bool) -> tuple[int, Optional[int]]:
        """Move some waiting tasks of a tenant; the order of `tasks` is theirs afterwards.

        Arguments:
            to: queue, tenant's path, and sub-queue or '' for the one that the queue and the tenant say.
            tasks: of each its entry, and its new headers and properties, '' for the old ones.
            force: no capacity limits it.

        Returns:
            How many went, or would go; and how many more there was room for before, None for any number.

        Raises:
            ConfigError: there is no such sub-queue, or they are there already.
        """
        target, tenant, sub_queue = to
        count, *rest = script('move')(
            self.client, [self.namespace(queue), self.namespace(target)], to_bytes(tenant_id), priority,
            to_bytes(tenant), sub_queue, int(force), int(only_look), *[part for task in tasks for part in task])
        if count == -1:
            raise ConfigError(_unknown_sub_queue(target, sub_queue, [name.decode() for name in rest]))
        if count == -2:
            raise ConfigError(f'queue {queue!r}: the tasks are there already; name another tenant, sub-queue or queue')
        room, = rest
        return count, None if room < 0 else room

    # -- tasks that wait for their time

    def delayed(self, queue: str, after: tuple[str, int | str] = ('', ''), count: int = 100) -> list[Delayed]:
        """The delayed tasks past the one of this place and due time, the earliest first."""
        place, due = after
        return [_delayed(*row) for row in self.run('delayed', queue, to_bytes(place), due, count)]

    def delayed_by_id(self, queue: str, task_id: str) -> list[Delayed]:
        """The delayed tasks of this id; more than one where a task is published again under its id."""
        return [_delayed(*row) for row in self.run('due', queue, task_id)]

    def count_delayed(self, queue: str) -> int:
        return self.client.zcard(keys.delayed(self.namespace(queue)))

    def cancel(self, queue: str, task_ids: Iterable[str]) -> list[str]:
        """Have delayed tasks not run; returns the ids of those that were there."""
        return [task_id.decode() for some in batches(task_ids, _SLOW_IDS_PER_CALL)
                for task_id in self.run('cancel', queue, *some)]

    def take_discarded(self, queue: str, count: int) -> list[Delivery]:
        """Take tasks that expired or were cancelled; who takes them tells Celery."""
        return [_delivery(queue, entry_id.decode(), flat)
                for entry_id, flat in self.run('take_discarded', queue, count)]

    # -- dead letters

    def dead_letters(self, queue: str, after: str = '', count: int = 100) -> list[tuple[str, dict[bytes, bytes]]]:
        """Id and fields of the dead letters past the one of this id, the oldest first."""
        found: Any = self.client.xrange(keys.dead(self.namespace(queue)), f'({after}' if after else '-', count=count)
        return [(letter_id.decode(), fields) for letter_id, fields in found]

    def newest_dead_letters(self, queue: str, before: str = '',
                            count: int = 100) -> list[tuple[str, dict[bytes, bytes]]]:
        """The same before the one of this id, the newest first."""
        found: Any = self.client.xrevrange(
            keys.dead(self.namespace(queue)), f'({before}' if before else '+', '-', count=count)
        return [(letter_id.decode(), fields) for letter_id, fields in found]

    def dead_letter(self, queue: str, letter_id: str) -> Optional[dict[bytes, bytes]]:
        """The fields of one; None where there is none of this id."""
        found: Any = self.client.xrange(keys.dead(self.namespace(queue)), letter_id, letter_id)
        return found[0][1] if found else None

    def count_dead_letters(self, queue: str) -> int:
        return self.client.xlen(keys.dead(self.namespace(queue)))

    def exhume(self, queue: str, ids: Iterable[str], again: bool) -> int:
        """Take dead letters out, `again` to have them delivered; returns how many were there."""
        return sum(self.run('exhume', queue, int(again), *some) for some in batches(ids, _SLOW_IDS_PER_CALL))

    # -- to and from the lists of the stock Redis transport

    def adopt(self, queue: str, source: str, look: int, tasks: Sequence[tuple[bytes, Publication]]) -> list[str]:
        """Move tasks from a list into their tenants' streams.

        Arguments:
            source: the list's key.
            look: how far from its end, where stock workers take, an entry is looked for.
            tasks: each as it lies in the list, and what is enqueued of it. No capacity limits them.

        Returns:
            What became of the first ones, as many as one call does: ``waits``, ``delayed``, ``expired``, ``gone``
            where the list had it no more, ``stuck`` where its tenant's key holds something else.

        Raises:
            SchemaMismatch: the queue's keys follow another layout.
        """
        arguments: list[Any] = [look]
        for entry, publication in tasks:
            tenant, priority, _, _, *rest = publication.arguments
            arguments += [entry, 2 + len(rest), tenant, priority, *rest]
        found = script('adopt')(self.client, [self.namespace(queue), source], *arguments)
        outcomes = [each.decode() for each in found]
        if outcomes and outcomes[0] == 'schema':
            raise SchemaMismatch(queue, outcomes[1], SCHEMA_VERSION)
        return outcomes

    def claim(self, queue: str, consumer: str, most: int, lease_seconds: float) -> tuple[list[Delivery], bool]:
        """Deliver tasks to one who takes them to another broker, in their order, whatever limits hold them.

        Returns:
            Some of them, and whether more wait; there may be none in one call, and some in the next.
        """
        more, *entries = self.run('claim', queue, consumer, most, _ms(lease_seconds))
        return [_delivery(queue, name.decode(), flat) for name, flat in entries], bool(more)

    def leave(self, queue: str, consumer: str, lease_seconds: float, targets: Sequence[str],
              tasks: Iterable[tuple[str, str, int, bytes]]) -> int:
        """Move tasks to lists, as the stock transport keeps them; returns how many were there.

        Arguments:
            consumer: who claimed those that are in egress.
            targets: keys of the lists.
            tasks: ``egress`` or ``delayed``, the name of its entry or its place, which list, and the entry of that.
        """
        return sum(script('leave')(self.client, [self.namespace(queue), *targets], consumer, _ms(lease_seconds), *[
            part for kind, name, target, entry in some for part in (kind, name, target + 1, entry)])
            for some in batches(tasks, _SLOW_IDS_PER_CALL))

    def count_cancelled(self, queue: str) -> int:
        """Tasks that expired or were cancelled, and of which Celery was not told yet."""
        return self.client.xlen(keys.discarded(self.namespace(queue)))

    # -- workers

    def lease(self, queue: str, consumer: str, slots: int, lease_seconds: float,
              suspects: Optional[int] = None) -> tuple[bool, int]:
        """Register a consumer or renew its lease.

        Arguments:
            suspects: how many tasks it may be at work on at a time: should it die, these deliveries failed, those of
                tasks that only waited in it did not. None for all.

        Returns:
            Whether it had no lease before; and, where `slots` is 0, how many tasks it has not settled (with none
            left its lease is given up).
        """
        began = monotonic()
        new, unsettled, self._streams[queue], left, now_ms = self.run(
            'lease', queue, consumer, slots, _ms(lease_seconds), '' if suspects is None else suspects)
        self.clock.set(now_ms, began, monotonic())
        self._finish(queue, left, range(_MOST_ROUNDS))
        return bool(new), unsettled

    def release(self, queue: str, consumer: str) -> int:
        """A consumer leaves for good; returns how many tasks it handed back."""
        total, done = 0, 0
        while not done:
            moved, done = self.run('release', queue, consumer)
            total += moved
        return total

    def reclaim(self, queue: str, consumer: str, held: Iterable[str]) -> int:
        """Deliver again what `consumer` was sent and does not hold; returns how many."""
        total, after, names = 0, '', list(held)
        while True:
            moved, last = self.run('reclaim', queue, consumer, after, *names)
            total, after = total + moved, last.decode()
            if not after:
                return total

    def note_waits(self, queue: str, counts: Mapping[tuple[bytes, Union[int, str]], int], seconds: float) -> None:
        """Add up how long tasks waited that were delivered; at most `WAITS_PER_CALL` counts.

        Arguments:
            counts: to how many, the id of a tenant, the name of a sub-queue, or `keys.ROOT` for the whole queue, and
                the bucket that their waits belong to; or 'ms', to the sum of the waits.
            seconds: in which they were gathered.
        """
        self.run('note_waits', queue, _ms(seconds), *[
            part for (of, bucket), count in counts.items() for part in (of, bucket, count)])

    # -- sweep loops

    def sweep(self, queue: str, lease_seconds: float, sweeper: str) -> Sweep:
        """One iteration: deliver the tasks of dead workers again, look at what is due, and dispatch.

        Arguments:
            sweeper: name of the loop, which has the right to sweep for `lease_seconds` more.
        """
        holds, *reply = self.run('sweep', queue, _ms(lease_seconds), sweeper)
        if not holds:
            return Sweep(False)
        moved, due_ms, idle_threshold, idle_timeout_ms, discarded, *flat = reply
        parts = iter(flat)
        recoveries = tuple(Recovery(to_text(consumer), tasks, died, bool(done))
                           for consumer, tasks, died, done in zip(parts, parts, parts, parts))
        self._note_dead(queue, sum(recovery.died for recovery in recoveries))
        return Sweep(True, moved, None if due_ms < 0 else due_ms, idle_threshold, idle_timeout_ms / 1000, discarded,
                     recoveries)

    def leave_sweep(self, queue: str, sweeper: str) -> None:
        """Let another one loop."""
        self.client.zrem(keys.sweepers(self.namespace(queue)), sweeper)

    # -- settings

    def set(self, queue: str, of: str, values: Mapping[str, Any], seconds: float = inf) -> bool:
        """Change options at run time; acts on waiting tasks at once. False where there is no such sub-queue.

        Where very many wait, the server is called until all go by it; who is next goes by it first.

        Arguments:
            of: ``queue``, ``default``, ``sub:<name>`` or ``tenant:<path>``.
            values: option to value, None where no limit holds, `FORGET` to go back to what the config says.
            seconds: for which the caller can wait; what is left then, the sweep does.

        Raises:
            QoSError: an earlier change was not over by then, so this one was not made.
        """
        until = monotonic() + seconds
        pairs = [part for name, value in values.items()
                 for part in (name, '' if value is FORGET else json.dumps(value))]
        done = _WAITS
        while done == _WAITS:
            done, *rest = self.run('set', queue, of, *pairs)
            if done == _WAITS and monotonic() >= until:
                raise QoSError(f'queue {queue!r}: an earlier change is not over yet, as many wait, so nothing was '
                               'changed; try again in a few seconds')
        self._finish(queue, rest[0] if rest else 0, _rounds(until))
        return bool(done)

    def settings(self, queue: str, of: str) -> dict[str, Any]:
        """The options in force, as far as they were configured or set; keys as `set` has them."""
        fields = [of, f'set:{of}']
        if of.startswith('tenant:') and keys.PART not in of:
            fields += ['default', 'set:default']
        found: Any = self.client.hmget(keys.settings(self.namespace(queue)), fields)
        own, overrides, *defaults = map(options_of, found)
        if of.startswith('sub:') and found[0] is None:
            return {}       # what was set of one that is declared no longer does not hold
        if own is None:
            own = {name: value for each in defaults if each for name, value in each.items()}
        return {**own, **(overrides or {})}

    def overridden(self, queue: str, of: str) -> dict[str, Any]:
        """The options that were set at run time; keys as `set` has them."""
        found: Any = self.client.hget(keys.settings(self.namespace(queue)), f'set:{of}')
        return options_of(found) or {}

    def sub_queues(self, queue: str) -> list[str]:
        """Names of the declared sub-queues, in order."""
        names = self.settings(queue, 'queue').get('queues')
        return names if isinstance(names, list) else []

    def counters(self, queue: str) -> dict[tuple[str, str], int]:
        """What became of tasks that found no room: (`on_full`, sub-queue) to how many."""
        found: Any = self.client.hgetall(keys.settings(self.namespace(queue)))
        counts = {}
        for field, value in found.items():
            kind, _, rest = to_text(field).partition(':')
            if kind == 'count' and value.isdigit():
                on_full, _, sub_queue = rest.partition(':')
                counts[on_full, sub_queue] = int(value)
        return counts

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
        try:
            return int(self.client.get(keys.transient(self.namespace(queue))) or 0) or None
        except (ValueError, ResponseError):
            return None     # what was set by hand marks nothing

    # -- the event loop's reader, which sends and parses by itself

    def _egress(self, queues: Iterable[str], turn: int = 0) -> list[str]:
        streams = [(queue, number, self.streams(queue)) for queue in queues for number in range(self.streams(queue))]
        return [keys.egress(self.namespace(queue), (turn + number) % count) for queue, number, count in streams]

    def read_command(self, queues: list[str], consumer: str, count: int, block_ms: Optional[int] = None) -> list:
        """Take tasks, at most `count` of each stream of egress; wait for the first of them, unless for None ms."""
        return _read(self._egress(queues), consumer, count, () if block_ms is None else ('BLOCK', block_ms))

    def wait_command(self, seen: Mapping[tuple[str, int], str], block_ms: int) -> list:
        """Wait until a stream has an entry past the one given for its queue and number; takes nothing."""
        streams = [keys.egress(self.namespace(queue), stream) for queue, stream in seen]
        return ['XREAD', 'COUNT', 1, 'BLOCK', block_ms, 'STREAMS', *streams,
                *[entry_id.rpartition(':')[2] for entry_id in seen.values()]]

    def unblock(self, connection_id: int) -> None:
        """Have a blocked read answered at once, with nothing; without the right to, it ends by itself."""
        try:
            self.client.client_unblock(connection_id)
        except NoPermissionError:
            pass

    def take(self, queues: list[str], consumer: str, count: int, turn: int = 0) -> list[Delivery]:
        """Deliver at most `count` tasks in all, without waiting; the first queue comes first.

        Arguments:
            turn: says which of a queue's streams comes first.
        """
        streams = self._egress(queues, turn)
        if len(streams) == 1:
            # In a script each entry would be copied twice.
            reply, = self._wire.send([_read(streams, consumer, count)])
            if isinstance(reply, ResponseError):
                raise reply
            if isinstance(reply, dict):
                reply = reply.items()       # RESP3
        else:
            reply = script('take')(self.client, streams, keys.GROUP, consumer, count)
        return self.parse_read(queues, reply)

    def parse_read(self, queues: list[str], reply) -> list[Delivery]:
        """The deliveries in a reply to `read_command` or `wait_command`."""
        found = []
        for key, entries in reply or ():
            queue, stream = self._place_of(queues, key)
            prefix = f'{stream}:' if stream else ''
            found += [_delivery(queue, prefix + entry_id.decode(), fields) for entry_id, fields in entries]
        return found

    def _place_of(self, queues: list[str], key: bytes) -> tuple[str, int]:
        """The queue and the number of the stream of egress that has this key."""
        for queue in queues:
            first = keys.egress(self.namespace(queue)).encode()
            if key == first:
                return queue, 0
            number = key[len(first) + 1:]
            if key.startswith(first + b':') and number.isdigit():
                return queue, int(number)
        raise KeyError(key)


#: What a script replies where another change of the settings has to be over before.
_WAITS = -1
#: Instead of a run-time value: what the config says.
FORGET = object()


def _read(streams: Sequence[str], consumer: str, count: int, block: Sequence[Any] = ()) -> list:
    return ['XREADGROUP', 'GROUP', keys.GROUP, consumer, 'COUNT', count, *block, 'STREAMS', *streams,
            *['>'] * len(streams)]


def _delivery(queue: str, name: str, flat: list[bytes]) -> Delivery:
    return Delivery(queue, name, fields_of(flat))


def _delayed(place: bytes, due: bytes, tenant: bytes, sub_queue: bytes, *flat: bytes) -> Delayed:
    return Delayed(to_text(place), int(due), to_text(tenant), to_text(sub_queue), fields_of(list(flat)))


def fields_of(flat: list[bytes]) -> dict[bytes, bytes]:
    pairs = iter(flat)
    return dict(zip(pairs, pairs))


def to_text(value: bytes) -> str:
    """Text that `to_bytes` makes the same bytes of, whoever wrote them."""
    return value.decode(errors='surrogateescape')


def to_bytes(value: str) -> bytes:
    return value.encode(errors='surrogateescape')


def options_of(text: Optional[bytes]) -> Optional[dict[str, Any]]:
    """None where there are none; as in the scripts, what is no JSON object counts as not said."""
    try:
        value = json.loads(text or b'')
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _list(text: Optional[bytes]) -> list[Any]:
    try:
        value = json.loads(text or b'')
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _rounds(until: float) -> Iterator[None]:
    """As many as begin before that time."""
    while monotonic() < until:
        yield


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def batches(items: Iterable[Any], size: int = IDS_PER_CALL) -> Iterator[list]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _contradiction(queue: str, stored: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    name = next((name for name in (*mine, *stored) if mine.get(name) != stored.get(name)), '')
    return (f'queue {queue!r}: {name}: {mine.get(name)!r} contradicts {stored.get(name)!r}, which it is at work '
            'with; start every producer and worker with the same, or change it by celery_qos.control(app).configure()')


def _unknown_sub_queue(queue: str, name: str, known: list[str]) -> str:
    if not known:
        return f'sub_queue: {name!r}: queue {queue!r} has no sub-queues'
    return f'sub_queue: {name!r} is unknown in queue {queue!r}; {hint(name, known)}'
