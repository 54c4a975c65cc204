"""One consumer's proof of life: its slots in each queue, renewed while it lives."""
from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Optional

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from ..codec import delivery_tag, parse_delivery_tag
from ..config import Config
from ..declared import declare
from ..notices import reason
from ..store import Delivery, Store
from . import native
from .runs import Run

__all__ = ('Lease', 'keep_nothing')

logger = get_logger(__name__)

#: Renewals within `lease_seconds`; all but one may fail before the lease ends.
INTERVALS = 5
#: Discarded tasks that are taken in one call.
DISCARDED_AT_ONCE = 100


def keep_nothing(delivery: Any) -> bool:
    """After a reconnect every unsettled delivery goes back, as AMQP has it."""
    return False


class Lease:
    """The slots of one consumer, and the deliveries it holds.

    The channel that reads under the consumer's name changes the slots; a thread of its own renews. The name outlives
    a lost connection, so that tasks which still run stay with their worker.

    Arguments:
        consumer: the consumer's name in the group on egress.
        store: used by the channel's thread only.
        config: the queues' options.
        unsent: returns queue and entry id of what is settled but Redis does not know yet.
    """

    def __init__(self, consumer: str, store: Store, config: Config,
                 unsent: Callable[[], list[tuple[str, str]]]) -> None:
        self.consumer = consumer
        #: A channel reads under this name now.
        self.active = False
        #: Says of a delivery tag whether its process still works on it after the connection was lost.
        self.keep: Callable[[Any], bool] = keep_nothing
        #: It had ended, perhaps as Redis had lost everything.
        self.lost = False
        #: Of the connection that read under this name, and was lost: which server that was, and what it calls the
        #: connection. Its last read may still be out.
        self.stale_reader: tuple[str, Optional[int]] = '', None
        #: Delivery tag to raw message (None until it is one) for each delivery that is not settled.
        self.held: dict[str, Any] = {}
        #: The same for those that the server keeps account of, from when they are passed on.
        self.runs: dict[str, Run] = {}
        #: Says of a message that is settled, and that no pool had, whether it is sure that it never ran.
        self.skips: Callable[[Any], bool] = keep_nothing
        #: How many tasks its process may be at work on at a time; None for all that it has.
        self.suspects: Callable[[], Optional[int]] = lambda: None
        #: How many that were when it was last renewed.
        self.at_work: Optional[int] = None
        #: In a Celery worker, what to call with a queue of which tasks were discarded: Celery is to be told.
        self.announce: Optional[Callable[[str], None]] = None
        self._store = store
        self._config = config
        self._unsent = unsent
        #: What the channel prefetches of each queue.
        self._slots: dict[str, int] = {}
        #: Queue to entry ids of what `get` delivered, in a slot of its own each.
        self._got: defaultdict[str, set[str]] = defaultdict(set)
        #: Queues of which `get` did not hear what it was delivered.
        self._unheard: set[str] = set()
        # A late renewal must not bring back slots that were just given up.
        self._lock = native.allocate_lock()
        # Greenlets of one thread that wait for a native lock would wait for good: they queue up here before.
        self._callers = threading.Lock()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """For everyone but the thread that renews."""
        with self._callers, self._lock:
            yield

    @property
    def queues(self) -> list[str]:
        return list(self._slots)

    @property
    def interval(self) -> float:
        """Seconds between renewals, and between sweeps; short enough for every queue that may join meanwhile."""
        return self._config.shortest_lease / INTERVALS

    def _seconds(self, queue: str) -> float:
        """How long a renewal holds: a sweep later, all within `lease_seconds`, others have what this consumer held."""
        return self._config.of(queue).lease_seconds * (INTERVALS - 1) / INTERVALS

    def slots(self, queue: str) -> int:
        return self._slots.get(queue, 0) + len(self._got[queue])

    def set_slots(self, queue: str, slots: int) -> None:
        """Bring `slots` to the queue, beside those of `get`; without any the lease lasts while tasks are unsettled."""
        with self._locked():
            self._find_unheard(queue)
            self._slots[queue] = slots
            self._renew(self._store, queue)

    def bring_no_slots(self, store: Store) -> None:
        """In no queue any more; called by a thread that has a store of its own. A renewal repeats what fails here."""
        with self._lock:
            self._slots = dict.fromkeys(self._slots, 0)
            self._got.clear()
            for queue in self.queues:
                self._renew(store, queue)

    def get(self, queue: str) -> Any:
        """Deliver one task without waiting, in a slot of its own.

        Raises:
            redis.RedisError, OSError: Redis does not answer. What it may have delivered is delivered again, by the next
                call, after a reconnect, or when the channel closes.
        """
        with self._locked():
            self._find_unheard(queue)
            try:
                delivery = self._store.get(queue, self.consumer, self.slots(queue) + 1, self._seconds(queue))
            except (RedisError, OSError):
                self._unheard.add(queue)
                self._slots.setdefault(queue, 0)
                raise
            if delivery:
                self._slots.setdefault(queue, 0)
                self._got[queue].add(delivery.entry_id)
                self.held[delivery_tag(queue, delivery.entry_id)] = None
            return delivery

    def _find_unheard(self, queue: str) -> None:
        """Have delivered again what `get` did not hear of. Where the channel consumes, that may be on its way to it."""
        if queue in self._unheard and not self._slots.get(queue):
            self._redeliver(queue)
            self._unheard.discard(queue)

    def has_got(self, queue: str, entry_id: str) -> bool:
        """`get` delivered it, in a slot that `leave_slot` gives up."""
        return entry_id in self._got[queue]

    def leave_slot(self, queue: str, entry_id: str) -> None:
        """Give up the slot of a delivery of `get`, which is settled. A renewal repeats what fails here."""
        with self._locked():
            self._got[queue].discard(entry_id)
            if queue in self._slots:
                with suppress(RedisError, OSError):
                    self._renew(self._store, queue)

    def reclaim(self) -> None:
        """After a reconnect: hand back what was sent to this consumer and is not held, or not worth keeping."""
        with self._locked():
            self._end_stale_read(self._store)
            self._reclaim()
            # The channel says anew what it consumes.
            self._slots = dict.fromkeys(self._slots, 0)

    def _end_stale_read(self, store: Store) -> None:
        """The server may not have noticed that its client is gone, and give it a task that nobody gets."""
        run_id, connection_id = self.stale_reader
        # A server that was started anew, or another one, gives the same numbers to others.
        if connection_id is not None and run_id and store.run_id() == run_id:
            store.unblock(connection_id)
        self.stale_reader = '', None

    def _reclaim(self) -> None:
        # Other threads settle meanwhile: what is held no more was settled before, so it has to be asked for after.
        for tag, message in list(self.held.items()):
            if message is None or not self.keep(tag):
                self.held.pop(tag, None)
                self.runs.pop(tag, None)
                queue, entry_id = parse_delivery_tag(tag)
                self._got[queue].discard(entry_id)
        for queue in self.queues:
            self._redeliver(queue)
        self._unheard.clear()

    def _redeliver(self, queue: str) -> None:
        """What was sent to this consumer, and it does not hold, is delivered again."""
        known = [*map(parse_delivery_tag, list(self.held)), *self._unsent()]
        moved = self._store.reclaim(queue, self.consumer, [entry_id for name, entry_id in known if name == queue])
        if moved:
            logger.info('reconnected: %d tasks of queue %r that were not started are delivered again', moved, queue)

    def cancel(self, task_ids: Collection[str]) -> None:
        """Have delayed tasks of all its queues not run; where Redis does not answer, they are left to Celery."""
        for queue in self.queues:
            try:
                self._store.cancel(queue, task_ids)
            except (RedisError, OSError) as exc:
                logger.warning('queue %r: cannot look for revoked tasks among the delayed (%s)', queue,
                               reason(exc))

    def take_discarded(self, queue: str) -> list[Delivery]:
        """Some tasks that expired or were cancelled; none where Redis does not answer."""
        try:
            return self._store.take_discarded(queue, DISCARDED_AT_ONCE)
        except (RedisError, OSError):
            return []       # the sweep tells of them again

    def renew(self, store: Store) -> None:
        """Renew in every queue; called by the thread, with a store of its own.

        Raises:
            ResponseError: the server refused one queue; the others are renewed.
        """
        refusal: Optional[ResponseError] = None
        for queue in self.queues:
            ended = False
            with self._lock:
                try:
                    if queue in self._slots and (ended := self._renew(store, queue)):
                        declare(store, queue, self._config)
                except ResponseError as exc:
                    refusal = exc
            if ended:
                self.lost = True
                logger.warning('the lease of %s on queue %r had ended: registered again; tasks it held may have '
                               'been delivered to others', self.consumer, queue)
        if refusal:
            raise refusal

    def release_left(self, store: Store) -> None:
        """As `release`, by the thread, unless a channel has begun to read under the name meanwhile."""
        with self._lock:
            if not self.active:
                self._release(store)

    def release(self, store: Store) -> None:
        """Leave every queue; what is unsettled is delivered again at once."""
        with self._locked():
            self._release(store)

    def _release(self, store: Store) -> None:
        self._end_stale_read(store)
        for queue in self.queues:
            store.release(queue, self.consumer)
            del self._slots[queue]
        self.held.clear()
        self.runs.clear()
        self._got.clear()
        self._unheard.clear()

    def _renew(self, store: Store, queue: str) -> bool:
        slots = self.slots(queue)
        self.at_work = self.suspects()
        new, unsettled = store.lease(queue, self.consumer, slots, self._seconds(queue), self.at_work)
        if slots == 0 and not unsettled:
            del self._slots[queue]
        return new and slots > 0

    def give_up(self) -> None:
        """As `release`, at the end of a channel, where a lost connection is no error: the lease will end by itself."""
        try:
            self.release(self._store)
        except (RedisError, OSError) as exc:
            logger.warning('cannot give back the slots of %s (%s): they go when its lease ends', self.consumer,
                           reason(exc))
