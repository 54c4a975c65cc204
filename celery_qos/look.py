"""The half of the waist that only looks: what is in a queue, some at a time; nothing here changes anything."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from redis.exceptions import ResponseError

from . import keys
from .config import MAX_STREAMS
from .store import Store, batches, fields_of, options_of, to_bytes, to_text

__all__ = ('Look', 'Glance', 'Found')

#: Accounts that are read in one command.
_IDS_PER_SCAN = 500
#: Tenants of whom one call looks at the streams of all priorities, and through them.
_TENANTS_PER_CALL, _TENANTS_PER_SEARCH = 12, 50


class Glance(NamedTuple):
    """A queue at one moment; counts of tasks but for `slots`, `accounts` and `parked`."""

    #: By the server's clock.
    now_ms: int
    algorithm: str
    slots: int
    #: How many egress may hold: as many as there are slots, or fewer by its own capacity.
    places: int
    egress: int
    idle_slots: int
    waiting: int
    delayed: int
    dead: int
    #: Ids in the scheduling tree that have waiting tasks: tenants, sub-queues, and what is between.
    accounts: int
    parked: int
    #: Consumer to its slots, the tasks that it holds, and the end of its lease in ms.
    consumers: Mapping[str, tuple[int, int, int]]

    @property
    def is_served(self) -> bool:
        """Whether a worker takes tasks."""
        return any(slots and end >= self.now_ms for slots, _, end in self.consumers.values())

    def has_lease(self, consumer: str) -> bool:
        return consumer in self.consumers and self.consumers[consumer][2] >= self.now_ms


class Found(NamedTuple):
    """A task that was looked for."""

    entry_id: str
    #: How many entries come before it there.
    before: int
    #: Without the body.
    fields: dict[bytes, bytes]


class Look:
    """Reads the queues of a `Store`. Of what the user may not read, redis-py raises `NoPermissionError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def glance(self, queue: str) -> Glance:
        """Numbers of the queue, all of one moment."""
        now, algorithm, *rest = self._store.run('glance', queue)
        flat = rest.pop()
        parts = iter(flat)
        consumers = {to_text(name): (slots, delivered, end)
                     for name, slots, delivered, end in zip(parts, parts, parts, parts)}
        return Glance._make([now, algorithm.decode(), *rest, consumers])

    def waiting_ids(self, queue: str) -> Iterator[tuple[str, int]]:
        """Ids in the scheduling tree, with how many tasks wait there: tenants and, without a colon, sub-queues.

        Some commands for each thousand; an id may come twice where the queue is at work.
        """
        key = keys.waiting(self._store.namespace(queue))
        for name, count in self._store.client.hscan_iter(key, count=_IDS_PER_SCAN):
            if count.isdigit():
                yield to_text(name), int(count)

    def waiting_of(self, queue: str, ids: Sequence[str]) -> list[int]:
        """How many tasks wait at each of these ids."""
        return [_count(each) for some in batches(ids, _IDS_PER_SCAN)
                for each in self._hmget(keys.waiting(self._store.namespace(queue)), some)]

    def tracked_of(self, queue: str, subjects: Sequence[str]) -> list[Optional[int]]:
        """How many tasks of each, ``tenant:<path>`` or ``sub:<name>``, are delivered or running; None where they are
        not counted, or there are none."""
        return [None if each is None else _count(each) for some in batches(subjects, _IDS_PER_SCAN)
                for each in self._hmget(keys.in_flight(self._store.namespace(queue)), some)]

    def tracked(self, queue: str) -> Iterator[tuple[str, int]]:
        """The subjects of `tracked_of` that have any, some in a command; one may come twice."""
        key = keys.in_flight(self._store.namespace(queue))
        for name, count in self._store.client.hscan_iter(key, count=_IDS_PER_SCAN):
            yield to_text(name), _count(count)

    def running(self, queue: str) -> Iterator[tuple[str, str]]:
        """Of each tracked task that was acknowledged at its start and runs, its entry and its tenant's id."""
        for consumer in self.glance(queue).consumers:
            key = keys.running(self._store.namespace(queue), consumer)
            for entry, tenant_id in self._store.client.hscan_iter(key, count=_IDS_PER_SCAN):
                yield to_text(entry), to_text(tenant_id)

    def is_set(self, queue: str, of: str) -> bool:
        """Whether the config, or somebody at run time, says something of it; `of` as `Store.set` has it."""
        return any(self._hmget(keys.settings(self._store.namespace(queue)), [of, f'set:{of}']))

    def has_root(self, queue: str) -> bool:
        """Whether sub-queues contend: some are declared, or were when what waits was published."""
        found, = self._hmget(keys.settings(self._store.namespace(queue)), ['top'])
        return found in (b'root', b'leaving')

    def weights_of(self, queue: str, paths: Sequence[str]) -> list[tuple[float, bool]]:
        """The weight of each tenant, and whether it is paused."""
        names = [name for path in paths for name in (f'tenant:{path}', f'set:tenant:{path}')]
        found = [options_of(each) for each in self._hmget(keys.settings(self._store.namespace(queue)), names)]
        default = self._store.settings(queue, 'default')
        merged = [{**(default if own is None and keys.PART not in path else own or {}), **(overrides or {})}
                  for path, own, overrides in zip(paths, found[::2], found[1::2])]
        return [(options.get('weight') or 1.0, bool(options.get('paused'))) for options in merged]

    def set_at_run_time(self, queue: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Of what (``queue``, ``default``, ``sub:<name>``, ``tenant:<path>``) which options were set at run time.

        A command for each thousand; one may come twice where options are being set.
        """
        key = keys.settings(self._store.namespace(queue))
        for name, text in self._store.client.hscan_iter(key, match='set:*', count=_IDS_PER_SCAN):
            yield to_text(name).removeprefix('set:'), options_of(text) or {}

    def totals(self, queue: str, names: Sequence[str]) -> list[int]:
        """These counters of the settings hash."""
        return [_count(each) for some in batches(names, _IDS_PER_SCAN)
                for each in self._hmget(keys.settings(self._store.namespace(queue)), some)]

    def oldest(self, queue: str, ids: Iterable[str]) -> Iterator[int]:
        """Since when, in ms of the server's clock, the oldest waiting task of each tenant's id waits; 0 for none."""
        for some in batches(map(to_bytes, ids), _TENANTS_PER_CALL):
            while some:
                found = self._store.run('oldest', queue, *some)
                yield from found
                some = some[len(found):]

    def earliest_due(self, queue: str) -> Optional[int]:
        """When the first delayed task is due, in ms of the server's clock."""
        found: Any = self._store.client.zrange(keys.delayed(self._store.namespace(queue)), 0, 0, withscores=True)
        return int(found[0][1]) if found else None

    def held(self, queue: str) -> dict[str, int]:
        """Tenant's id to its number of tasks in egress."""
        counts: dict[str, int] = {}
        for stream in range(self.streams(queue)):
            after: Any = b''
            while True:
                after, *flat = self._store.run('held', queue, stream, after)
                parts = iter(flat)
                for name, count in zip(parts, parts):
                    counts[to_text(name)] = counts.get(to_text(name), 0) + count
                if not after:
                    break
        return counts

    def find(self, queue: str, task_id: str, stream: str,
             looked: Callable[[int], None] = lambda count: None) -> Optional[Found]:
        """Look for a task in a stream of this queue, oldest entry first, some entries in a call.

        Arguments:
            stream: its key.
            looked: is called with how many entries each call looked at.
        """
        name = stream.removeprefix(self._store.namespace(queue))
        found = self._find(queue, task_id, False, [name], looked)
        return found and found[1]

    def find_waiting(self, queue: str, task_id: str, ids: Iterable[str],
                     looked: Callable[[int], None] = lambda count: None) -> Optional[tuple[str, Found]]:
        """The same in all streams of these tenants' ids; returns the id too. `before` it are those of its tenant that
        are more urgent, or older."""
        for some in batches(ids, _TENANTS_PER_SEARCH):
            if found := self._find(queue, task_id, True, some, looked):
                return found
        return None

    def _find(self, queue: str, task_id: str, of_tenants: bool, places: Sequence[str],
              looked: Callable[[int], None]) -> Optional[tuple[str, Found]]:
        go_on: list[Any] = [1, b'', 0]
        while places:
            found, done, *rest = self._store.run(
                'find', queue, task_id, int(of_tenants), *go_on, *map(to_bytes, places))
            places = places[done:]
            if found:
                entry_id, before, *flat = rest
                return places[0], Found(entry_id.decode(), before, fields_of(flat))
            count, *go_on = rest
            looked(count)
        return None

    def own_ids(self, sub_queue: str, path: str) -> list[str]:
        """Ids that tasks of the tenant itself may wait by: where others are inside it, that of a child beside them."""
        return [f'{sub_queue}:{path}', f'{sub_queue}:{path}{keys.PART}']

    def streams(self, queue: str) -> int:
        """How many streams its egress has, or had and still may have tasks in."""
        found, = self._hmget(keys.settings(self._store.namespace(queue)), ['shards'])
        return max(1, min(_count(found), MAX_STREAMS))

    def egress_streams(self, queue: str) -> list[str]:
        return [keys.egress(self._store.namespace(queue), number) for number in range(self.streams(queue))]

    def dead_stream(self, queue: str) -> str:
        return keys.dead(self._store.namespace(queue))

    def consumer_of(self, stream: str, entry_id: str) -> Optional[str]:
        """Who was delivered the entry of egress; None where nobody was."""
        try:
            rows: Any = self._store.client.xpending_range(stream, keys.GROUP, entry_id, entry_id, 1)
        except ResponseError:       # no such group, so nobody
            return None
        return to_text(rows[0]['consumer']) if rows else None

    def parked_until(self, queue: str, node_id: str) -> Optional[float]:
        """Until when a limit holds it back, in ms of the server's clock; infinite where no time ends that."""
        return self._store.client.zscore(keys.parked(self._store.namespace(queue)), to_bytes(node_id))

    def before(self, queue: str, node: str, node_id: str) -> Optional[int]:
        """How many children of a node of the scheduling tree are served before this one; None where it is not ready."""
        rank: Any = self._store.client.zrank(keys.ready(self._store.namespace(queue), node), to_bytes(node_id))
        return rank

    def _hmget(self, key: str, fields: Sequence[str]) -> list[Optional[bytes]]:
        found: Any = self._store.client.hmget(key, [to_bytes(each) for each in fields]) if fields else []
        return found


def _count(value: Optional[bytes]) -> int:
    return int(value) if value and value.isdigit() else 0
