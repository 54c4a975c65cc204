"""How long tasks waited, as a histogram with few buckets: small enough to keep for each tenant, and to add up."""
from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import time
from typing import Any, Optional

from redis import Redis
from redis.exceptions import NoPermissionError

from .. import keys

__all__ = ('Waits', 'BOUNDS', 'bucket_of', 'queue_waits', 'tenant_waits', 'each_tenant_waits', 'totals')

#: Upper bounds of the buckets, in seconds, a factor of 1.3 to 1.7 apart, from 1 ms to 10,000 s; one more has the rest.
BOUNDS = (*(round(step * 10.0 ** power, 4) for power in range(-3, 4) for step in (1, 1.5, 2, 3, 5, 7)), 10000.0)
#: Full minutes that are looked back upon, beside the one that has begun.
MINUTES = 5
#: Seconds: a rate of less time than this would say nothing.
LEAST_SECONDS = 10.0
#: Tenants that are asked for at once, and fields of a scan: the server serves nobody else meanwhile.
_TENANTS_PER_CALL, _FIELDS_PER_CALL = 12, 500


@dataclass(frozen=True)
class Waits:
    """Waits from a task's publication (or the time it was delayed to) until it was handed to a worker.

    Arguments:
        counts: tasks in each bucket of `BOUNDS`, and in the one past the last bound.
        total: seconds that all of them waited together.
        seconds: the time in which these were.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.count / self.seconds if self.seconds else 0.0

    def quantile(self, q: float) -> Optional[float]:
        """The wait, in seconds, that the share `q` of the tasks did not exceed: interpolated in its bucket, as
        Prometheus' histogram_quantile does it; the last bound for what is past it. None without tasks."""
        if not self.count:
            return None
        rank, seen = q * self.count, 0
        for index, count in enumerate(self.counts):
            if count and seen + count >= rank:
                if index == len(BOUNDS):
                    return BOUNDS[-1]
                low = BOUNDS[index - 1] if index else 0.0
                return low + (BOUNDS[index] - low) * max(rank - seen, 0) / count
            seen += count
        return BOUNDS[-1]

    def __add__(self, other: Waits) -> Waits:
        return Waits(tuple(map(sum, zip(self.counts, other.counts))), self.total + other.total,
                     max(self.seconds, other.seconds))

    @classmethod
    def of_buckets(cls, counts: Mapping[int, int], total: float = 0.0, seconds: float = 0.0) -> Waits:
        """From bucket number to count."""
        return cls(tuple(counts.get(index, 0) for index in range(len(BOUNDS) + 1)), total, seconds)


def bucket_of(seconds: float) -> int:
    """The number of the bucket that a wait belongs to."""
    return bisect_left(BOUNDS, seconds)


def queue_waits(client: Redis, ns: str) -> dict[str, Waits]:
    """Of the last minutes: of the whole queue by '', of each of its sub-queues by name.

    Arguments:
        client: returns bytes, as all clients here.
        ns: the queue's namespace.
    """
    names = _sub_queues(client, ns)
    return dict(zip(['', *names], _Window(client, ns).read([keys.ROOT, *names])))


def tenant_waits(client: Redis, ns: str, ids: Optional[Iterable[str]] = None) -> dict[str, Waits]:
    """Of the last minutes: tenant's id (`keys.tenant_id`) to its waits, whose `total` is not known.

    Arguments:
        ids: of those asked for, each of whom is in the answer; None for all who were delivered a task.
    """
    if ids is None:
        return dict(each_tenant_waits(client, ns))
    found: dict[str, Waits] = {}
    rest, window = iter(ids), _Window(client, ns)
    while some := list(islice(rest, _TENANTS_PER_CALL)):
        found.update(zip(some, window.read(some)))
    return found


def each_tenant_waits(client: Redis, ns: str) -> Iterator[tuple[str, Waits]]:
    """As `tenant_waits`, of all who were delivered a task; read in parts, so that the server is never held for long."""
    window = _Window(client, ns)
    counts: defaultdict[bytes, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
    for key in window.keys:
        # A scan may come upon a field twice.
        fields = dict(client.hscan_iter(key, count=_FIELDS_PER_CALL))
        for field, count in fields.items():
            bucket, _, tenant_id = field.partition(b'|')
            if b':' in tenant_id and bucket.isdigit() and int(bucket) <= len(BOUNDS):
                counts[tenant_id][int(bucket)] += _whole(count)
    for tenant_id, found in counts.items():
        yield tenant_id.decode(errors='surrogateescape'), Waits(tuple(found), 0.0, window.seconds)


def totals(client: Redis, ns: str) -> dict[str, Waits]:
    """Since the queue exists: of the whole queue by '', of each of its sub-queues by name. They only ever grow."""
    names = ['', *_sub_queues(client, ns)]
    fields = [field for name in names for field in (
        *(f'total:wait:{bucket}:{name}' for bucket in range(len(BOUNDS) + 1)), f'total:waited_ms:{name}')]
    values: Any = client.hmget(keys.settings(ns), fields)
    return dict(zip(names, _parsed(values, 0.0)))


class _Window:
    """The minutes that are looked back upon, and the time in which something was noted."""

    def __init__(self, client: Redis, ns: str) -> None:
        self._client = client
        now = _now(client)
        minute = int(now // 60)
        self.keys = [keys.waits(ns, each) for each in range(minute - MINUTES, minute + 1)]
        begun = [_whole(client.hget(key, 'since')) / 1000 for key in self.keys]
        since = min(filter(None, begun), default=0.0)
        #: At most all of them, for what was noted late was gathered before.
        self.seconds = min(max(now - since, LEAST_SECONDS), now - (minute - MINUTES) * 60)

    def read(self, ids: list[str]) -> list[Waits]:
        """Of each of these ids."""
        fields = [field.encode(errors='surrogateescape') for each in ids for field in (
            *(f'{bucket}|{each}' for bucket in range(len(BOUNDS) + 1)), f'ms|{each}')]
        sums = [0] * len(fields)
        for key in self.keys:
            values: Any = self._client.hmget(key, fields)
            sums = [so_far + _whole(value) for so_far, value in zip(sums, values)]
        return _parsed(sums, self.seconds)


def _parsed(values: list[Any], seconds: float) -> list[Waits]:
    """One for each so many values: the counts of the buckets, then the sum in ms."""
    size = len(BOUNDS) + 2
    parts = [list(map(_whole, values[start:start + size])) for start in range(0, len(values), size)]
    return [Waits(tuple(part[:-1]), part[-1] / 1000, seconds) for part in parts]


def _sub_queues(client: Redis, ns: str) -> list[str]:
    """The declared ones, and those that are declared no longer but had tasks when that changed."""
    found: Any = client.hmget(keys.settings(ns), ['queue', 'set:queue', 'former'])
    queue, override, former = map(_decoded, found)
    options = {**(queue if isinstance(queue, dict) else {}), **(override if isinstance(override, dict) else {})}
    names = [name for each in (options.get('queues'), former) if isinstance(each, list) for name in each]
    return [name for name in dict.fromkeys(names) if name and isinstance(name, str)]


def _decoded(text: Optional[bytes]) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text or b'')
    return None


def _whole(value: Any) -> int:
    """0 for what is no number, as it was set by hand."""
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _now(client: Redis) -> float:
    """By the server's clock, unless this user may not ask."""
    try:
        seconds, micros = client.time()
        return int(seconds) + int(micros) / 1_000_000
    except NoPermissionError:
        return time()
