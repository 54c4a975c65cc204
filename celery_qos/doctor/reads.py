"""What the checks read of a queue's keys, some at a time."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Optional

from .. import keys
from ..store import Store, to_bytes, to_text
from .patient import Progress

#: Keys, or fields, that one command looks at.
PAGE = 500
#: Deliveries of which is looked at since when they are with their worker.
MOST_HELD = 200


def as_json(value: Any) -> str:
    return json.dumps(value)


def now(store: Store) -> float:
    """The server's clock, in seconds."""
    seconds, microseconds = store.client.time()
    return seconds + microseconds / 1e6


def settings(store: Store, queue: str, *fields: str) -> list[Optional[str]]:
    found: Any = store.client.hmget(keys.settings(store.namespace(queue)), fields)
    return [None if value is None else value.decode(errors='replace') for value in found]


def scan(store: Store, match: str, what: str, progress: Progress) -> Iterator[str]:
    """The keys of the database that match; one may come twice."""
    total, done, cursor = int(store.client.dbsize()), 0, 0
    while True:
        page: Any
        cursor, page = store.client.scan(cursor, match=match, count=PAGE)
        yield from map(to_text, page)
        done += PAGE
        progress(what, min(done, total), total)
        if not cursor:
            return


def escaped(text: str) -> str:
    """A pattern that matches this text only."""
    return re.sub(r'([\[\]*?\\^-])', r'\\\1', text)


def schemas(store: Store, progress: Progress) -> Iterator[tuple[str, str]]:
    """Each queue of the server, and its schema version."""
    head, tail = keys.settings(keys.namespace('\n', store.prefix)).split('\n')
    for key in scan(store, f'{escaped(head)}*{escaped(tail)}', 'queues', progress):
        version: Any = store.client.hget(key, 'schema')
        if version is not None:
            yield key[len(head):-len(tail)], version.decode(errors='replace')


def leases(store: Store, queue: str) -> tuple[list[str], dict[str, float]]:
    """Consumers with a lease, and seconds since the end of those that ended."""
    found: Any = store.client.zrange(keys.leases(store.namespace(queue)), 0, -1, withscores=True)
    time = now(store) * 1000
    return ([to_text(name) for name, end in found if end >= time],
            {to_text(name): (time - end) / 1000 for name, end in found if end < time})


def slots_without_lease(store: Store, queue: str) -> list[str]:
    ns = store.namespace(queue)
    with store.client.pipeline(transaction=True) as pipe:
        pipe.hkeys(keys.slots(ns))
        pipe.zrange(keys.leases(ns), 0, -1)
        slots, leased = pipe.execute()
    return sorted(map(to_text, set(slots) - set(leased)))


def grant_lease(store: Store, queue: str, consumer: str, seconds: float) -> None:
    ends = (now(store) + seconds) * 1000
    store.client.zadd(keys.leases(store.namespace(queue)), {consumer: ends}, nx=True)


def overdue_seconds(store: Store, queue: str) -> Optional[float]:
    """How long the first delayed task is due; None where there is none."""
    found: Any = store.client.zrange(keys.delayed(store.namespace(queue)), 0, 0, withscores=True)
    return now(store) - found[0][1] / 1000 if found else None


def held_seconds(store: Store, queue: str) -> list[float]:
    """For how long the oldest deliveries are with their workers, the shortest first."""
    ns, found = store.namespace(queue), []
    for number in range(streams(store, queue)):
        if not any(row['name'] == keys.GROUP.encode() for row in groups(store, keys.egress(ns, number))):
            continue
        rows: Any = store.client.xpending_range(keys.egress(ns, number), keys.GROUP, '-', '+', MOST_HELD)
        found += [row['time_since_delivered'] / 1000 for row in rows]
    return sorted(found)


def groups(store: Store, key: str) -> list[dict[str, Any]]:
    return store.client.xinfo_groups(key) if store.client.exists(key) else []


def streams(store: Store, queue: str) -> int:
    found = settings(store, queue, 'shards')[0]
    return int(found) if found and found.isdigit() else 1


def accounts(store: Store, queue: str, progress: Progress) -> Iterator[list[str]]:
    """Ids of what tasks are noted of, some at a time; one may come twice."""
    key = keys.waiting(store.namespace(queue))
    total, done, cursor = int(store.client.hlen(key)), 0, 0
    while True:
        page: Any
        cursor, page = store.client.hscan(key, cursor, count=PAGE)
        done += len(page)
        yield [to_text(name) for name in page]
        progress('accounts', min(done, total), total)
        if not cursor:
            return


def without_account(store: Store, queue: str, ids: list[str]) -> list[str]:
    """Those of `ids` of which nothing is noted."""
    fields = [to_bytes(each) for each in ids]
    found: Any = store.client.hmget(keys.waiting(store.namespace(queue)), fields) if fields else []
    return [each for each, value in zip(ids, found) if value is None]


def noted_total(store: Store, queue: str) -> int:
    found: Any = store.client.hget(keys.state(store.namespace(queue)), 'waiting')
    return int(found) if found and found.lstrip(b'-').isdigit() else 0


def count_of_writes(store: Store) -> int:
    """How many commands of those that move tasks the server has run."""
    stats: Any = store.client.info('commandstats')
    return sum(stats.get(f'cmdstat_{name}', {}).get('calls', 0) for name in ('xadd', 'xdel', 'xtrim', 'del', 'unlink'))


def delayed_counts(store: Store, queue: str) -> tuple[int, int]:
    """Due times and tasks."""
    ns = store.namespace(queue)
    with store.client.pipeline(transaction=True) as pipe:
        pipe.zcard(keys.delayed(ns))
        pipe.hlen(keys.delayed_tasks(ns))
        due, tasks = pipe.execute()
    return due, tasks


def delayed_ids(store: Store, queue: str, progress: Progress) -> Iterator[list[str]]:
    """Ids of delayed tasks, some at a time; their messages come along."""
    key = keys.delayed_tasks(store.namespace(queue))
    total, done, cursor = int(store.client.hlen(key)), 0, 0
    while True:
        page: Any
        cursor, page = store.client.hscan(key, cursor, count=20)
        done += len(page)
        yield sorted({to_text(name).partition(':')[2] for name in page})
        progress('delayed tasks', min(done, total), total)
        if not cursor:
            return


#: Key, after the namespace, to the type that it must have.
TYPES = {
    'settings': 'hash', 'ready': 'zset', 'finish': 'zset', 'owing': 'hash', 'parked': 'zset', 'woken': 'zset',
    'moving': 'hash', 'lendable': 'zset', 'waiting': 'hash', 'in_flight': 'hash', 'averages': 'hash', 'tokens': 'hash',
    'leases': 'zset', 'slots': 'hash', 'sweepers': 'zset', 'bell': 'list', 'state': 'hash', 'delayed': 'zset',
    'delayed_tasks': 'hash', 'discarded': 'stream', 'dead': 'stream', 'transient': 'string', 'egress': 'stream',
}


def wrong_types(store: Store, queue: str) -> dict[str, tuple[str, str]]:
    """Key to the type that it has, and the one that it must have."""
    ns = store.namespace(queue)
    names = {f'{ns}:{name}': kind for name, kind in TYPES.items()}
    with store.client.pipeline(transaction=False) as pipe:
        for key in names:
            pipe.type(key)
        found = [to_text(kind) for kind in pipe.execute()]
    return {key: (kind, names[key]) for key, kind in zip(names, found) if kind not in ('none', names[key])}


def kinds(store: Store, queue: str, progress: Progress) -> Iterator[list[tuple[str, str]]]:
    """Kind and name of the queue's keys of which there may be any number, some at a time."""
    ns = store.namespace(queue)
    found = (_kind_and_name(key[len(ns) + 1:]) for key in scan(store, f'{escaped(ns)}:*', 'keys', progress))
    while page := list(islice(found, PAGE)):
        yield page


def _kind_and_name(key: str) -> tuple[str, str]:
    kind, colon, name = key.partition(':')
    if not colon and kind in ('ready', 'finish', 'owing'):
        return kind, keys.ROOT
    return kind, '0' if not colon and kind == 'egress' else name
