"""This process as a consumer of one Redis database: its leases, what it settles, and the thread that keeps it alive."""
from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Optional
from uuid import uuid4

from kombu.log import get_logger
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from ..bell import Bell
from ..config import Config
from ..notices import reason
from ..store import Store
from . import native
from .lease import Lease, keep_nothing
from .settler import Settler
from .sweep import Sweeper
from .waits import WaitMeter

__all__ = ('Member', 'member_of')

logger = get_logger(__name__)

#: Seconds until the thread looks again, where no queue is consumed yet.
FIRST_LOOK = 0.1


class Member:
    """Everything here outlives connections: consumer names, unsettled deliveries, acks that Redis did not take yet.

    Arguments:
        new_store: returns a store with connections of its own.
        config: the queues' options.
    """

    def __init__(self, new_store: Callable[[], Store], config: Config) -> None:
        self.pid = os.getpid()
        self.store = new_store()
        self.settler = Settler(self.store)
        self.waits = WaitMeter(self.store.clock)
        self._config = config
        self._name = f'{socket.gethostname()}:{self.pid}:{uuid4().hex[:8]}'
        self._leases: list[Lease] = []
        self._sweeper = Sweeper(self._name, config, self._announce)
        self._thread_store = new_store()
        self._thread_store.share_streams(self.store)
        self._bell = Bell(self._thread_store)
        self._thread_runs = False
        #: When leases are renewed next, by `time.monotonic`.
        self._renew_at = 0.0
        #: Something failed since the last renewal, and between the last two.
        self._failed = self._failed_before = False
        #: Redis took no renewal of anybody's lease lately.
        self._away = False
        self._lock = native.allocate_lock()
        #: Never released: to wait for it is to sleep, in this thread only.
        self._clock = native.allocate_lock()
        self._clock.acquire()
        atexit.register(self.leave)

    def join(self, keep: Callable[[Any], bool] = keep_nothing) -> Lease:
        """A lease for a channel that begins to consume: the one of a lost connection, if there is one.

        Arguments:
            keep: of the same consumer before and after the loss, so that each finds its own.
        """
        with self._lock:
            lease = next((lease for lease in self._leases if not lease.active and lease.keep == keep), None)
            if lease is None:
                lease = Lease(f'{self._name}.{len(self._leases)}', self.store, self._config,
                              lambda: self.settler.unsent)
                self._leases.append(lease)
            lease.active, lease.keep = True, keep
            if not self._thread_runs:
                self._thread_runs = True
                native.start_thread(self._run)
        if lease.queues:
            try:
                self.settler.flush()
                lease.reclaim()
            except BaseException:
                lease.active = False    # whoever tries again is to find it
                raise
        return lease

    def swept(self, queues: Iterable[str]) -> list[str]:
        """Those of `queues` of which this process has a place in the sweep."""
        return [queue for queue in self._sweeper.places if queue in set(queues)]

    def drop_connections(self) -> None:
        """A channel's connection is lost: those that nobody uses now may be too."""
        self.store.client.connection_pool.disconnect(inuse_connections=False)

    def leave(self) -> None:
        """The process ends: give every slot back."""
        if self.pid == os.getpid():
            self.settler.flush(wait=True)
            self._sweeper.leave(self.store)
            if not self._away:
                self.waits.flush(self.store, last=True)
            for lease in self._leases:
                if lease.queues:
                    lease.give_up()

    def _run(self) -> None:
        self._renew_at = 0.0
        while self._goes_on():
            if monotonic() >= self._renew_at:
                self._renew_at = monotonic() + self._interval
                self._failed_before, self._failed = self._failed, False
                if not self._try(self._renew):
                    continue
                if self._away:
                    # A lease that has ended meanwhile may be of one who lives: all renew within this interval.
                    self._away = False
                    logger.info('Redis takes renewals of the leases of %s again', self._name)
                    self._rest(self._renew_at)
                    continue
                self.waits.flush(self._thread_store)
            if self._try(self._sweep):
                self._try(self._wait)

    def _goes_on(self) -> bool:
        with self._lock:
            self._thread_runs = bool(self._sweeper.places) or any(
                lease.active or lease.queues for lease in self._leases)
            if not self._thread_runs:
                # Where sockets are gevent's, they are of the thread that made them, and the next one is another.
                self._bell.leave()
                self._thread_store.client.connection_pool.disconnect()
            return self._thread_runs

    @property
    def _interval(self) -> float:
        return min(lease.interval for lease in self._leases)

    @property
    def _queues(self) -> set[str]:
        return {queue for lease in list(self._leases) for queue in lease.queues}

    def _try(self, act: Callable[[Store], None]) -> bool:
        """False where Redis does not answer: it is left alone until the next renewal."""
        try:
            act(self._thread_store)
        except (RedisError, OSError) as exc:
            self._complain(exc)
            if isinstance(exc, ResponseError) and not isinstance(exc, ReadOnlyError):
                return True     # it may be of one queue only
            self._away = True
            self._bell.leave()
            self._rest(self._renew_at)
            return False
        except Exception:
            logger.exception('the lease thread of %s goes on after an error', self._name)
            self._rest(self._renew_at)
            return False
        return True

    def _complain(self, exc: Exception) -> None:
        """Once, until everything went well from one renewal to the next."""
        if not self._failed and not self._failed_before:
            logger.warning('cannot renew the leases of %s, or sweep its queues (%s): tried again every %g s',
                           self._name, reason(exc), self._interval)
        self._failed = True

    def _rest(self, until: float) -> None:
        self._clock.acquire(timeout=max(0, until - monotonic()))

    def _renew(self, store: Store) -> None:
        refusal: Optional[ResponseError] = None
        for lease in list(self._leases):
            try:
                if lease.active or lease.keep is not keep_nothing:
                    lease.renew(store)
                else:
                    lease.release_left(store)
            except ResponseError as exc:
                refusal = exc       # it may be of one queue only, and no lease may end for the sake of another
        if refusal:
            raise refusal

    def _announce(self, queue: str) -> None:
        """Tasks of the queue were discarded: one of the channels that belong to a Celery worker tells of them."""
        for lease in list(self._leases):
            if lease.announce and queue in lease.queues:
                lease.announce(queue)
                return

    def _sweep(self, store: Store) -> None:
        self._sweeper.run(store, self._queues, self._interval)

    def _wait(self, store: Store) -> None:
        """Block until a loop or a renewal is due, or the bell rings."""
        until = min(self._renew_at, self._sweeper.due)
        if not self._queues:
            until = min(until, monotonic() + FIRST_LOOK)
        places = self._sweeper.places
        if not places:
            self._rest(until)
            return
        try:
            while (seconds := until - monotonic()) > 0:
                if (queue := self._bell.wait(places, seconds, native.wait_readable)) is not None:
                    self._sweeper.wake(queue)
                    return
        except ResponseError as exc:
            self._complain(exc)     # what is due by the clock is done in time nevertheless
        self._rest(until)


_members: dict[tuple, Member] = {}
# A forked child is another process: it must neither renew nor give back what its parent holds.
os.register_at_fork(after_in_child=_members.clear)


def member_of(identity: tuple, new_store: Callable[[], Store], config: Config) -> Member:
    """The one member of this process for the database that `identity` tells apart."""
    try:
        return _members[identity]
    except KeyError:
        return _members.setdefault(identity, Member(new_store, config))
