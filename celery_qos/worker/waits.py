"""Counts how long the tasks waited that this process was delivered, and tells Redis now and then."""
from __future__ import annotations

from collections import Counter, deque
from time import monotonic
from typing import Optional, Union

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from .. import keys
from ..clock import ServerClock
from ..codec import enqueued_ms
from ..notices import reason
from ..observe.waits import BOUNDS, bucket_of
from ..store import WAITS_PER_CALL, Delivery, Store
from . import native

__all__ = ('WaitMeter',)

logger = get_logger(__name__)

#: Seconds between two flushes, at least.
INTERVAL = 2.0
#: Tenants that are told apart in a minute; the tasks of others count for their queue and sub-queue.
MOST_TENANTS = 1000
#: Bytes of a tenant's id that is told apart; none of ours is longer.
MOST_BYTES = 1024
#: Waits that are kept until the next flush; beyond, the oldest ones are not counted.
MOST_NOTED = 100_000

_ROOT = keys.ROOT.encode()
#: Id and bucket, or 'ms', as the store has them.
_Count = tuple[bytes, Union[int, str]]


class WaitMeter:
    """One thread notes, another one flushes. What Redis does not take now, it is told later; nothing here raises.

    A flush whose reply is lost may be counted twice, as nobody knows whether Redis took it.
    """

    def __init__(self, clock: ServerClock) -> None:
        self._clock = clock
        #: Queue, sub-queue, tenant and seconds: all that is done for each task. The rest is for the other thread.
        self._noted: deque[tuple[str, bytes, bytes, float]] = deque(maxlen=MOST_NOTED)
        #: Queue to what Redis is to be told of it.
        self._counts: dict[str, Counter[_Count]] = {}
        #: Queue and id of the tenants that are told apart in this minute of the server's clock.
        self._tenants: set[tuple[str, bytes]] = set()
        self._minute = 0
        self._flushed_at = monotonic()
        #: Since when what is in `_counts` was gathered.
        self._since = self._flushed_at
        self._failing = False
        self._lock = native.allocate_lock()

    def note(self, delivery: Delivery) -> float:
        """A task is handed to Celery now; returns for how many seconds it has waited."""
        wait = max(self._clock.now() - enqueued_ms(delivery) / 1000, 0.0)
        fields = delivery.fields
        self._noted.append((delivery.queue, fields.get(b'sub', b''), fields.get(b'tenant', b''), wait))
        return wait

    def flush(self, store: Store, last: bool = False) -> None:
        """Tell Redis, unless it was told a moment ago; the last time, in any case."""
        if not last and monotonic() - self._flushed_at < INTERVAL or not (self._noted or self._counts):
            return
        if not self._lock.acquire(blocking=False):
            return      # the other thread is at it
        try:
            self._gather()
            refusal = self._send(store)
        finally:
            self._lock.release()
        if refusal and not self._failing:
            logger.warning('cannot note how long tasks waited (%s): tried again', reason(refusal))
        self._failing = refusal is not None

    def _gather(self) -> None:
        if not self._counts:
            self._since = self._flushed_at
        self._flushed_at = monotonic()
        minute = int(self._clock.now() // 60)
        if minute != self._minute:
            self._minute = minute
            # Those that Redis could not be told of yet are still there.
            self._tenants = {(queue, of) for queue, counts in self._counts.items() for of, _ in counts if b':' in of}
        # One look-up a task; what is left is done once for each tenant.
        found: dict[tuple[str, bytes, bytes], list[int]] = {}
        for _ in range(len(self._noted)):
            queue, sub_queue, tenant, wait = self._noted.popleft()
            try:
                sums = found[queue, sub_queue, tenant]
            except KeyError:
                sums = found[queue, sub_queue, tenant] = [0] * (len(BOUNDS) + 2)
            sums[bucket_of(wait)] += 1
            sums[-1] += int(wait * 1000 + 0.5)
        for (queue, sub_queue, tenant), (*buckets, ms) in found.items():
            self._add(queue, sub_queue, sub_queue + b':' + tenant, buckets, ms)

    def _add(self, queue: str, sub_queue: bytes, tenant_id: bytes, buckets: list[int], ms: int) -> None:
        counts = self._counts.setdefault(queue, Counter())
        of = [_ROOT, sub_queue] if sub_queue else [_ROOT]
        counts.update({(each, 'ms'): ms for each in of if ms})
        if self._tells_apart(queue, tenant_id):
            of.append(tenant_id)
        for bucket, count in enumerate(buckets):
            if count:
                for each in of:
                    counts[each, bucket] += count

    def _tells_apart(self, queue: str, tenant_id: bytes) -> bool:
        if (queue, tenant_id) in self._tenants:
            return True
        if len(self._tenants) >= MOST_TENANTS or len(tenant_id) > MOST_BYTES:
            return False
        self._tenants.add((queue, tenant_id))
        return True

    def _send(self, store: Store) -> Optional[Exception]:
        """Returns what went wrong; what was not sent for it is left in `_counts`."""
        refusal: Optional[Exception] = None
        for queue, counts in list(self._counts.items()):
            items = list(counts.items())
            try:
                for start in range(0, len(items), WAITS_PER_CALL):
                    some = dict(items[start:start + WAITS_PER_CALL])
                    store.note_waits(queue, some, self._flushed_at - self._since)
                    for each in some:
                        del counts[each]
                del self._counts[queue]
            except ResponseError as exc:
                refusal = exc       # it may be of this queue only
            except (RedisError, OSError) as exc:
                return exc
        return refusal
