"""The sweep loops of one process: the safety net for what no event announces."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from math import inf
from time import monotonic
from typing import Optional

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from ..config import Config
from ..notices import reason
from ..store import Store, Sweep
from . import native

__all__ = ('Sweeper', 'Loop')

logger = get_logger(__name__)

#: Seconds between two looks at what is due already and cannot be done yet.
SHORTEST_BLOCK = 0.01
#: Intervals that a block lasts at most: a place that is not used is lost.
MOST_INTERVALS = 2


class Loop:
    """When one queue is swept next."""

    def __init__(self) -> None:
        #: Time of the next iteration, by `time.monotonic`.
        self.at = 0.0
        #: This process has one of the places; without one, an iteration only asks for it.
        self.holds = False
        self._blanks = 0

    def swept(self, sweep: Sweep, now: float, interval: float) -> None:
        """An iteration ended `now`; who has no place asks again after `interval` seconds."""
        self.holds = sweep.holds
        blank = not (sweep.moved or sweep.recoveries)
        self._blanks = self._blanks + 1 if blank else 0
        if not self.holds:
            self._blanks, self.at = 0, now + interval
        elif self._blanks < sweep.idle_threshold:
            self.at = now
        else:
            block = min(sweep.idle_timeout, MOST_INTERVALS * interval)
            if sweep.due_ms is not None:
                block = min(block, sweep.due_ms / 1000)
            self._blanks, self.at = 0, now + max(block, SHORTEST_BLOCK)


class Sweeper:
    """The loops of the queues that this process works on, which one thread runs.

    As many processes as a queue's egress has `workers` loop at a time; the server gives out the places.

    Arguments:
        name: tells this process apart from all others.
        config: the queues' options.
        announce: what to call with a queue of which tasks were discarded that Celery is to be told of.
    """

    def __init__(self, name: str, config: Config, announce: Callable[[str], None]) -> None:
        self._name = name
        self._config = config
        self._announce = announce
        self._loops: dict[str, Loop] = {}
        #: Queue and consumer whose lease has ended to the tasks that are delivered again so far: a call does some.
        self._recovered: Counter[tuple[str, str]] = Counter()
        self._left = False
        # A sweep under way must not take a place again that is just given back.
        self._lock = native.allocate_lock()

    @property
    def places(self) -> list[str]:
        """The queues of which this process has a place."""
        return [queue for queue, loop in list(self._loops.items()) if loop.holds]

    @property
    def due(self) -> float:
        """When the next iteration is due, by `time.monotonic`."""
        return min((loop.at for loop in self._loops.values()), default=inf)

    def run(self, store: Store, queues: Collection[str], interval: float) -> None:
        """One iteration of each loop that is due.

        Arguments:
            queues: all that this process works on now.
            interval: seconds after which it asks again for a place it was not given, or what failed is tried again.

        Raises:
            ResponseError: the server refused one queue; the others were swept.
        """
        refusal: Optional[ResponseError] = None
        for queue in [queue for queue in self._loops if queue not in queues]:
            self._leave(store, queue)
        for queue in queues:
            loop = self._loops.setdefault(queue, Loop())
            if loop.at <= monotonic():
                loop.at = monotonic() + interval
                try:
                    self._sweep(store, queue, loop, interval)
                except ResponseError as exc:
                    refusal = exc
        if refusal:
            raise refusal

    def _sweep(self, store: Store, queue: str, loop: Loop, interval: float) -> None:
        with self._lock:
            if self._left:
                return
            # Who asks an interval after the end of the right to sweep is there within `lease_seconds`.
            sweep = store.sweep(queue, self._config.of(queue).lease_seconds - interval, self._name)
            loop.swept(sweep, monotonic(), interval)
        if sweep.discarded:
            self._announce(queue)
        for recovery in sweep.recoveries:
            self._recovered[queue, recovery.consumer] += recovery.tasks
            if recovery.done:
                tasks = self._recovered.pop((queue, recovery.consumer))
                logger.warning('the lease of %s on queue %r has ended: its slots are gone, %d tasks are delivered '
                               'again', recovery.consumer, queue, tasks)

    def wake(self, queue: str) -> None:
        """Something was enqueued that the queue's loop must look at."""
        if queue in self._loops:
            self._loops[queue].at = 0.0

    def leave(self, store: Store) -> None:
        """Give all places back for good; one that cannot be given back now goes when it is not renewed."""
        with self._lock:
            self._left = True
            for queue in list(self._loops):
                self._leave(store, queue)

    def _leave(self, store: Store, queue: str) -> None:
        loop = self._loops.pop(queue, None)
        if loop and loop.holds:
            try:
                store.leave_sweep(queue, self._name)
            except (RedisError, OSError) as exc:
                logger.warning('cannot give back the place of %s in the sweep of queue %r (%s)', self._name, queue,
                               reason(exc))
