"""The tenants of a queue: those that matter most, whether there are ten or a million."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional, Union

from .. import keys
from ..checks import hint
from ..errors import ConfigError
from ..look import Look
from ..path import key_of, keys_of
from ..store import Store, batches
from .in_flight import in_flight_of
from .waits import Waits, each_tenant_waits, queue_waits, tenant_waits

__all__ = ('TenantStatus', 'SORTS', 'tenants_of')

#: What tenants can be sorted by, the most first: the attributes of that name; `wait` is the oldest task's.
SORTS = ('waiting', 'in_flight', 'wait', 'p50', 'p95', 'p99', 'rate', 'share', 'tenant')


@dataclass(frozen=True)
class TenantStatus:
    #: Its key, or the tuple of its keys; '' for the empty tenant.
    tenant: Union[str, tuple[str, ...]]
    #: '' where the queue has none.
    sub_queue: str
    waiting: int
    #: Tasks in egress; where they are counted until they end, those that run too.
    in_flight: int
    weight: float
    paused: bool
    #: Seconds that its oldest waiting task has waited; None where none waits.
    wait: Optional[float] = None
    #: Its tasks of the last minutes.
    waits: Waits = Waits()
    #: Its part of all tasks that the queue delivered in the last minutes, 0 to 1; None where there were none.
    share: Optional[float] = None
    #: The part that its weight gives it among those that wait now; None where it does not wait, or is paused.
    entitlement: Optional[float] = None

    @property
    def rate(self) -> float:
        """Tasks delivered a second."""
        return self.waits.rate

    @property
    def p50(self) -> Optional[float]:
        """Half of its tasks of the last minutes waited at most so many seconds."""
        return self.waits.quantile(0.5)

    @property
    def p95(self) -> Optional[float]:
        return self.waits.quantile(0.95)

    @property
    def p99(self) -> Optional[float]:
        return self.waits.quantile(0.99)


def tenants_of(store: Store, queue: str, sort: str, top: Optional[int], match: str,
               progress: Optional[Callable[[int, int], None]]) -> list[TenantStatus]:
    if sort not in SORTS:
        raise ConfigError(f'sort: {sort!r} is unknown; {hint(sort, list(SORTS))}')
    return _Tenants(store, queue, match, progress or (lambda looked, of: None)).sorted(sort, top)


class _Tenants:
    """One look at the tenants of a queue.

    Arguments:
        progress: called with how many were looked at, and of how many.
    """

    def __init__(self, store: Store, queue: str, match: str, progress: Callable[[int, int], None]) -> None:
        self._look, self._queue, self._match, self._progress = Look(store), queue, match, progress
        self._client, self._ns = store.client, store.namespace(queue)
        self._algorithms = {'': self._look.glance(queue).algorithm}
        for name in store.every_sub_queue(queue)[1:]:
            self._algorithms[name] = store.settings(queue, f'sub:{name}').get('algorithm') or 'wrr'
        self._in_flight = in_flight_of(self._look, queue)
        #: Node of the scheduling tree to the weights of those that contend there, added up.
        self._weights: dict[str, float] = {}

    def sorted(self, sort: str, top: Optional[int]) -> list[TenantStatus]:
        wanted = ((each, rank) for each, rank in self._ranked(sort) if self._is_wanted(each))
        ids = _first(wanted, top, lowest=sort == 'tenant')
        found = [status for some in batches(ids, 200) for status in self._statuses(some)]
        found.sort(key=lambda status: _order(status, 'tenant'))
        if sort != 'tenant':
            found.sort(key=lambda status: (_order(status, sort), status.waiting, status.rate), reverse=True)
        return found[:top]

    def _ranked(self, sort: str) -> Iterator[tuple[str, Any]]:
        """Ids, each with what it is sorted by, None for nothing; one may come twice."""
        if sort in ('p50', 'p95', 'p99', 'rate', 'share'):
            for each, waits in each_tenant_waits(self._client, self._ns):
                yield each, waits.count if sort in ('rate', 'share') else waits.quantile(int(sort[1:]) / 100)
        for some in batches(self._waiting(), 1000):
            ids = [each for each, _ in some]
            ranks: Iterable[Any] = (None for _ in ids)
            if sort == 'waiting':
                ranks = (count for _, count in some)
            elif sort == 'wait':
                ranks = (-since if since else None for since in self._look.oldest(self._queue, ids))
            elif sort == 'tenant':
                ranks = (_path(each) for each in ids)
            yield from zip(ids, ranks)
        for each, count in self._in_flight.items():
            yield each, _path(each) if sort == 'tenant' else count if sort == 'in_flight' else None
        for each, _ in each_tenant_waits(self._client, self._ns):
            yield each, _path(each) if sort == 'tenant' else None

    def _waiting(self) -> Iterator[tuple[str, int]]:
        """Tenants' ids with the tasks that wait; on the way, the weights are added up."""
        of, looked = self._look.glance(self._queue).accounts, 0
        self._weights = {}
        for some in batches(self._look.waiting_ids(self._queue), 1000):
            weights = self._look.weights_of(self._queue, [_path(each) for each, _ in some])
            for (each, _), (weight, paused) in zip(some, weights):
                if ':' not in each or paused:
                    continue
                node = _node_above(each)
                self._weights[node] = self._weights.get(node, 0.0) + (1.0 if self._is_equal(node) else weight)
            looked += len(some)
            self._progress(min(looked, of), of)
            yield from ((each, count) for each, count in some if ':' in each)

    def _is_wanted(self, each: str) -> bool:
        # The child that stands for the own tasks of a tenant with others inside has no key of its own.
        return not each.endswith(keys.PART) and (
            not self._match or fnmatchcase('/'.join(keys_of(_path(each))), self._match))

    def _is_equal(self, node: str) -> bool:
        return self._algorithms.get(node.partition(':')[0]) == 'rr'

    def _statuses(self, ids: list[str]) -> Iterator[TenantStatus]:
        look, paths = self._look, [_path(each) for each in ids]
        now_ms = look.glance(self._queue).now_ms
        whole = queue_waits(self._client, self._ns).get('', Waits())
        waits = tenant_waits(self._client, self._ns, ids)
        rows = zip(ids, paths, look.waiting_of(self._queue, ids), self._look.oldest(self._queue, ids),
                   look.weights_of(self._queue, paths))
        for each, path, waiting, since, (weight, paused) in rows:
            mine = waits.get(each, Waits())
            yield TenantStatus(
                key_of(path), each.partition(':')[0], waiting, self._in_flight.get(each, 0), weight, paused,
                max(0.0, (now_ms - since) / 1000) if since else None, mine,
                mine.count / whole.count if whole.count else None,
                self._entitlement(each, weight) if waiting and not paused else None)

    def _entitlement(self, each: str, weight: float) -> Optional[float]:
        """Of the tenant's part of its node; where there are sub-queues, or it is inside another, of what that has."""
        node = _node_above(each)
        if self._algorithms.get(each.partition(':')[0]) == 'pq':
            return None
        of = self._weights.get(node)
        return min(1.0, (1.0 if self._is_equal(node) else weight) / of) if of else None


def _path(each: str) -> str:
    return each.partition(':')[2]


def _node_above(each: str) -> str:
    sub_queue, _, path = each.partition(':')
    above, part, _ = path.rpartition(keys.PART)
    return f'{sub_queue}:{above}' if part else sub_queue


def _first(ranked: Iterable[tuple[str, Any]], top: Optional[int], lowest: bool) -> list[str]:
    """The `top` ids of the highest rank, or the lowest, in memory for a few times as many; all of them for None."""
    best: dict[str, Any] = {}
    for each, rank in ranked:
        if best.get(each) is None:
            best[each] = rank
        if top is not None and len(best) > 10 * top + 1000:
            best = dict(_sorted(best, lowest)[:top])
    return [each for each, _ in _sorted(best, lowest)[:top]]


def _sorted(best: dict[str, Any], lowest: bool) -> list[tuple[str, Any]]:
    """Those without a rank come last."""
    ranked = sorted(((each, rank) for each, rank in best.items() if rank is not None),
                    key=lambda pair: pair[1], reverse=not lowest)
    return ranked + [(each, None) for each, rank in best.items() if rank is None]


def _order(status: TenantStatus, sort: str) -> Any:
    if sort == 'tenant':
        return status.tenant if isinstance(status.tenant, tuple) else (status.tenant,)
    value = getattr(status, sort)
    return float('-inf') if value is None else value
