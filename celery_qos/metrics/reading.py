"""What one scrape needs to know of a queue."""
from __future__ import annotations

from itertools import islice
from typing import NamedTuple, Optional

from redis.exceptions import NoPermissionError

from .. import keys
from ..look import Look
from ..observe.counts import counts_by_sub_queue
from ..observe.status import QueueStatus, status_of
from ..observe.tenants import TenantStatus, tenants_of
from ..observe.waits import Waits, totals
from ..store import Store, batches

__all__ = ('QueueReading', 'TenantsReading', 'read_queue', 'read_tenants', 'read_memory')

#: Tenants whose oldest task is looked at, beside those that have most waiting: each costs ten reads.
MOST_OLDEST = 1000


class QueueReading(NamedTuple):
    """A queue, whatever the number of its tenants."""

    status: QueueStatus
    #: Seconds for which the first delayed task has been due.
    overdue: float
    #: Since the queue exists: of the whole queue by '', of its sub-queues by name.
    waits: dict[str, Waits]
    #: As `counts_by_sub_queue` has them.
    counts: dict[tuple[str, str], int]


class TenantsReading(NamedTuple):
    """The tenants of a queue that have most waiting, and the queue at that moment."""

    status: QueueStatus
    tenants: list[TenantStatus]
    #: Seconds that the oldest task of who is not paused has waited; None where this user may not ask.
    oldest: Optional[float]


def read_queue(store: Store, queue: str) -> QueueReading:
    status, look = status_of(store, queue), Look(store)
    due_ms, now_ms = look.earliest_due(queue), look.glance(queue).now_ms
    waits = totals(store.client, store.namespace(queue))
    return QueueReading(status, 0.0 if due_ms is None else max(0.0, (now_ms - due_ms) / 1000), waits,
                        counts_by_sub_queue(look, queue, [name for name in waits if name]))


def read_tenants(store: Store, queue: str, top: int) -> TenantsReading:
    """All tenants are looked at, some in a call: the more there are, the longer it takes."""
    status = status_of(store, queue)
    tenants = tenants_of(store, queue, 'waiting', top, '', None)
    return TenantsReading(status, tenants, _oldest(store, status, tenants))


def read_memory(store: Store) -> tuple[Optional[int], Optional[int]]:
    """Bytes that Redis uses, and may use, 0 for no limit; None where this user may not ask."""
    try:
        info = store.client.info('memory')
    except NoPermissionError:
        return None, None
    return info.get('used_memory'), info.get('maxmemory')


def _oldest(store: Store, status: QueueStatus, tenants: list[TenantStatus]) -> Optional[float]:
    """Of these and of as many more as may be looked at, but for who is paused; None where this user may not read
    tasks."""
    look, queue = Look(store), status.queue
    some = (each for each, _ in islice(look.waiting_ids(queue), MOST_OLDEST) if ':' in each)
    most = (f'{tenant.sub_queue}:{_path_of(tenant)}' for tenant in tenants if tenant.waiting)
    ids = _without_paused(look, status, list(dict.fromkeys([*some, *most])))
    try:
        since = [each for each in look.oldest(queue, ids) if each]
    except NoPermissionError:
        return None
    if not since:
        return None if ids else 0.0
    return max(0.0, (look.glance(queue).now_ms - min(since)) / 1000)


def _without_paused(look: Look, status: QueueStatus, ids: list[str]) -> list[str]:
    """Their tasks wait because somebody wants it. A pause holds for all that is inside, of a sub-queue or a tuple."""
    sub_queues = {each.name for each in status.sub_queues if each.paused}
    above = {each: _paths(each.partition(':')[2]) for each in ids}
    paused: set[str] = set()
    for some in batches(dict.fromkeys(path for paths in above.values() for path in paths), 500):
        paused |= {path for path, (_, is_paused) in zip(some, look.weights_of(status.queue, some)) if is_paused}
    return [each for each in ids if each.partition(':')[0] not in sub_queues and paused.isdisjoint(above[each])]


def _path_of(tenant: TenantStatus) -> str:
    return keys.PART.join(tenant.tenant) if isinstance(tenant.tenant, tuple) else tenant.tenant


def _paths(path: str) -> list[str]:
    """A tenant's, and those of who it is inside of."""
    parts = path.split(keys.PART)
    return [keys.PART.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
