"""Gathers acks and rejects, and sends them to Redis in one call a queue; what failed is kept and sent again."""
from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import NamedTuple, Optional

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from ..store import Store

__all__ = ('Settler',)

logger = get_logger(__name__)

#: Seconds between two tries while Redis refuses.
RETRY_INTERVAL = 1.0


class _Outcome(NamedTuple):
    queue: str
    entry_id: str
    #: Back into egress instead of out of it.
    requeue: bool = False
    #: The delivery counts as failed.
    counted: bool = False


class Settler:
    """Thread-safe; settling through it never raises for Redis's sake."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes: deque[_Outcome] = deque()
        self._lock = threading.Lock()
        self._retry_at = 0.0

    def settle(self, queue: str, entry_id: str) -> None:
        self._outcomes.append(_Outcome(queue, entry_id))

    def requeue(self, queue: str, entry_id: str, counted: bool) -> None:
        self._outcomes.append(_Outcome(queue, entry_id, True, counted))

    @property
    def unsent(self) -> list[tuple[str, str]]:
        """Queue and entry id of what Redis does not know yet; waits for a flush that is under way."""
        with self._lock:
            return [(outcome.queue, outcome.entry_id) for outcome in list(self._outcomes)]

    def flush(self, last: bool = False) -> None:
        """Send what was gathered; the last time, also where Redis refused a moment ago, and wait for other flushes."""
        if not last and (not self._outcomes or (self._retry_at and monotonic() < self._retry_at)):
            return
        with self._lock:
            gathered = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
            groups: dict[tuple[str, bool, bool], list[_Outcome]] = {}
            for outcome in gathered:
                groups.setdefault((outcome.queue, outcome.requeue, outcome.counted), []).append(outcome)
            refusal: Optional[Exception] = None
            try:
                for key, outcomes in list(groups.items()):
                    try:
                        self._send(*key, [outcome.entry_id for outcome in outcomes])
                        del groups[key]
                    except ResponseError as exc:
                        refusal = exc       # it may be of this queue only
                    except (RedisError, OSError) as exc:
                        refusal = exc
                        break
            finally:
                # Whatever ended it, such as a task's time limit or a signal to stop at once.
                kept = [outcome for rest in groups.values() for outcome in rest]
                self._outcomes.extendleft(reversed(kept))
            if refusal:
                self._postpone(len(kept), refusal)
            elif self._retry_at:
                self._retry_at = 0.0
                logger.info('Redis takes acks again: all that were kept are settled')

    def _send(self, queue: str, requeue: bool, counted: bool, ids: list[str]) -> None:
        if requeue:
            self._store.requeue(queue, ids, counted)
        else:
            self._store.settle(queue, ids)

    def _postpone(self, count: int, exc: Exception) -> None:
        if not self._retry_at:
            logger.warning('cannot settle %d tasks (%r): kept, and tried again every %g s', count, exc, RETRY_INTERVAL)
        self._retry_at = monotonic() + RETRY_INTERVAL
