"""This process as a consumer of one Redis database: its leases, what it settles, and the thread that keeps it alive."""
from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Callable
from typing import Any, Optional
from uuid import uuid4

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from ..config import Config
from ..store import Store
from . import native
from .lease import Lease, keep_nothing
from .settler import Settler
from .sweep import sweep

__all__ = ('Member', 'member_of')

logger = get_logger(__name__)


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
        self._config = config
        self._name = f'{socket.gethostname()}:{self.pid}:{uuid4().hex[:8]}'
        self._leases: list[Lease] = []
        self._thread_store = new_store()
        self._thread_runs = False
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
                lease = Lease(f'{self._name}.{len(self._leases)}', self.store, self._config)
                self._leases.append(lease)
            lease.active, lease.keep = True, keep
            if not self._thread_runs:
                self._thread_runs = True
                native.start_thread(self._run)
        if lease.queues:
            self.settler.flush()
            lease.reclaim(lambda: self.settler.unsent)
        return lease

    def leave(self) -> None:
        """The process ends: give every slot back."""
        if self.pid == os.getpid():
            self.settler.flush(last=True)
            for lease in self._leases:
                if lease.queues:
                    lease.give_up()

    def _run(self) -> None:
        failed = False
        while self._goes_on():
            interval = min(lease.interval for lease in self._leases)
            self._clock.acquire(timeout=interval)
            try:
                self._tick(self._thread_store)
                failed = False
            except (RedisError, OSError) as exc:
                if not failed:
                    logger.warning('cannot renew the leases of %s (%r): tried again every %g s',
                                   self._name, exc, interval)
                failed = True
            except Exception:
                logger.exception('the lease thread of %s goes on after an error', self._name)

    def _goes_on(self) -> bool:
        with self._lock:
            self._thread_runs = any(lease.active or lease.queues for lease in self._leases)
            return self._thread_runs

    def _tick(self, store: Store) -> None:
        refusal: Optional[ResponseError] = None
        for lease in list(self._leases):
            try:
                if lease.active or lease.keep is not keep_nothing:
                    lease.renew(store)
                else:
                    lease.release_left(store)
            except ResponseError as exc:
                refusal = exc       # it may be of one queue only, and no lease may end for the sake of another
        for queue in {queue for lease in self._leases for queue in lease.queues}:
            try:
                sweep(store, queue, self._config.of(queue).lease_seconds)
            except ResponseError as exc:
                refusal = exc
        if refusal:
            raise refusal


_members: dict[tuple, Member] = {}
# A forked child is another process: it must neither renew nor give back what its parent holds.
os.register_at_fork(after_in_child=_members.clear)


def member_of(identity: tuple, new_store: Callable[[], Store], config: Config) -> Member:
    """The one member of this process for the database that `identity` tells apart."""
    try:
        return _members[identity]
    except KeyError:
        return _members.setdefault(identity, Member(new_store, config))
