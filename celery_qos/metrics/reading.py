"""What one scrape needs to know of a queue."""
from __future__ import annotations

from itertools import islice
from typing import NamedTuple, Optional

from redis.exceptions import NoPermissionError

from ..look import Look
from ..observe.counts import counts_by_sub_queue
from ..observe.status import QueueStatus, status_of
from ..observe.tenants import TenantStatus, tenants_of
from ..observe.waits import Waits, totals
from ..store import Store

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
    #: Seconds that the oldest task has waited; None where this user may not ask.
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
    oldest = _oldest(store, queue)
    if oldest is not None:
        oldest = max(oldest, *(tenant.wait or 0.0 for tenant in tenants), 0.0)
    return TenantsReading(status, tenants, oldest)


def read_memory(store: Store) -> tuple[Optional[int], Optional[int]]:
    """Bytes that Redis uses, and may use, 0 for no limit; None where this user may not ask."""
    try:
        info = store.client.info('memory')
    except NoPermissionError:
        return None, None
    return info.get('used_memory'), info.get('maxmemory')


def _oldest(store: Store, queue: str) -> Optional[float]:
    """Of as many tenants as may be looked at; None where this user may not read tasks."""
    look = Look(store)
    ids = [each for each, _ in islice(look.waiting_ids(queue), MOST_OLDEST) if ':' in each]
    try:
        since = [each for each in look.oldest(queue, ids) if each]
    except NoPermissionError:
        return None
    if not since:
        return None if ids else 0.0
    return max(0.0, (look.glance(queue).now_ms - min(since)) / 1000)
