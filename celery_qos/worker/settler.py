"""Gathers acks, rejects and ends of tasks, and sends them to Redis in one call a queue; what failed is sent again."""
from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import NamedTuple, Optional

from kombu.log import get_logger
from redis.exceptions import RedisError, ResponseError

from ..notices import reason
from ..store import IDS_PER_CALL, Store, Tracked

__all__ = ('Settler',)

logger = get_logger(__name__)

#: Seconds between two tries while Redis refuses.
RETRY_INTERVAL = 1.0


class _Kind(NamedTuple):
    """What can go in one call."""

    queue: str
    #: 'settle', 'requeue', 'requeue counted' (the delivery failed), 'bury', 'started' or 'finished'.
    act: str
    #: The consumer whose task started or finished, or the reason why one is buried.
    detail: str = ''


class _Outcome(NamedTuple):
    kind: _Kind
    entry_id: str
    #: Its account, where the server keeps one.
    task: Optional[Tracked] = None


class Batch(NamedTuple):
    """Acks that somebody else sends, and then says what became of them."""

    command: list
    outcomes: list[_Outcome]


class Settler:
    """Thread-safe; settling through it never raises for Redis's sake."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes: deque[_Outcome] = deque()
        #: Batches that were handed out, by `id`.
        self._out: dict[int, Batch] = {}
        #: Something else than an ack was gathered since all was sent: that waits for nobody.
        self._mixed = False
        #: When the oldest of what was gathered came, by `time.monotonic`.
        self.since = 0.0
        #: The kinds of acks, by queue.
        self._acks: dict[str, _Kind] = {}
        self._lock = threading.Lock()
        self._retry_at = 0.0

    def settle(self, queue: str, entry_id: str) -> None:
        if not self._outcomes:
            self.since = monotonic()
        kind = self._acks.get(queue) or self._acks.setdefault(queue, _Kind(queue, 'settle'))
        self._outcomes.append(_Outcome(kind, entry_id))

    def requeue(self, queue: str, entry_id: str, counted: bool) -> None:
        self._add(_Outcome(_Kind(queue, 'requeue counted' if counted else 'requeue'), entry_id))

    def bury(self, queue: str, entry_id: str, reason: str) -> None:
        self._add(_Outcome(_Kind(queue, 'bury', reason), entry_id))

    def started(self, queue: str, consumer: str, task: Tracked) -> None:
        """The task runs: it leaves its slot, and is in flight until it is finished."""
        self._add(_Outcome(_Kind(queue, 'started', consumer), task.entry_id, task))

    def finished(self, queue: str, consumer: str, task: Tracked) -> None:
        """The task has ended, whether or not it had started."""
        self._add(_Outcome(_Kind(queue, 'finished', consumer), task.entry_id, task))

    def _add(self, outcome: _Outcome) -> None:
        self._mixed = True
        self._outcomes.append(outcome)

    def __len__(self) -> int:
        """How many were gathered and not sent."""
        return len(self._outcomes)

    @property
    def only_acks(self) -> bool:
        """Nothing else was gathered, and Redis did not refuse lately."""
        return not self._mixed and not self._retry_at

    @property
    def unsent(self) -> list[tuple[str, str]]:
        """Queue and entry id of what Redis does not know yet; waits for a flush that is under way."""
        with self._lock:
            return [(outcome.kind.queue, outcome.entry_id)
                    for outcomes in (*(batch.outcomes for batch in list(self._out.values())), list(self._outcomes))
                    for outcome in outcomes]

    def hand_out(self) -> list[Batch]:
        """What was gathered, as commands that the caller sends; nothing where that is not for others to send."""
        if not self._outcomes or not self.only_acks or not self._lock.acquire(blocking=False):
            return []
        try:
            groups: dict[str, list[_Outcome]] = {}
            for _ in range(min(len(self._outcomes), IDS_PER_CALL)):
                outcome = self._outcomes.popleft()
                if outcome.kind.act != 'settle':
                    self._outcomes.appendleft(outcome)
                    break
                groups.setdefault(outcome.kind.queue, []).append(outcome)
            batches = [Batch(self._store.settle_command(queue, [outcome.entry_id for outcome in outcomes]), outcomes)
                       for queue, outcomes in groups.items()]
            self._out.update((id(batch), batch) for batch in batches)
            return batches
        finally:
            self._lock.release()

    def sent(self, batch: Batch) -> None:
        """Redis took the batch."""
        self._out.pop(id(batch), None)

    def take_back(self, batch: Batch) -> None:
        """It is not known whether Redis took the batch: it is sent again, which changes nothing where it did."""
        self._outcomes.extendleft(reversed(batch.outcomes))
        self.sent(batch)

    def flush(self, wait: bool = False) -> None:
        """Send what was gathered.

        Arguments:
            wait: until other flushes have sent theirs too, and also send where Redis refused a moment ago.
        """
        if not wait and (not self._outcomes or (self._retry_at and monotonic() < self._retry_at)):
            return
        with self._lock:
            self._mixed = False
            gathered = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
            groups: dict[_Kind, list[_Outcome]] = {}
            for outcome in _without_started_that_ended(gathered):
                groups.setdefault(outcome.kind, []).append(outcome)
            refusal: Optional[Exception] = None
            try:
                for kind, outcomes in list(groups.items()):
                    try:
                        self._send(kind, outcomes)
                        del groups[kind]
                    except ResponseError as exc:
                        refusal = exc       # it may be of this queue only
                    except (RedisError, OSError) as exc:
                        refusal = exc
                        break
            finally:
                # Whatever ended it, such as a task's time limit or a signal to stop at once.
                kept = [outcome for rest in groups.values() for outcome in rest]
                self._mixed = self._mixed or bool(kept)
                self._outcomes.extendleft(reversed(kept))
            if refusal:
                self._postpone(len(kept), refusal)
            elif self._retry_at:
                self._retry_at = 0.0
                logger.info('Redis takes acks again: all that were kept are settled')

    def _send(self, kind: _Kind, outcomes: list[_Outcome]) -> None:
        if kind.act == 'settle':
            self._store.settle(kind.queue, [outcome.entry_id for outcome in outcomes])
        elif kind.act.startswith('requeue'):
            counted = kind.act == 'requeue counted'
            self._store.requeue(kind.queue, [outcome.entry_id for outcome in outcomes], counted)
        elif kind.act == 'bury':
            self._store.bury(kind.queue, [outcome.entry_id for outcome in outcomes], kind.detail)
        else:
            tell = self._store.started if kind.act == 'started' else self._store.finished
            tell(kind.queue, kind.detail, [outcome.task for outcome in outcomes if outcome.task])

    def _postpone(self, count: int, exc: Exception) -> None:
        if not self._retry_at:
            logger.warning('cannot settle %d tasks (%s): kept, and tried again every %g s',
                           count, reason(exc), RETRY_INTERVAL)
        self._retry_at = monotonic() + RETRY_INTERVAL


def _without_started_that_ended(outcomes: list[_Outcome]) -> list[_Outcome]:
    """What is left to tell: an end says all that a start of the same task says."""
    ended = {(outcome.kind.queue, outcome.entry_id) for outcome in outcomes if outcome.kind.act == 'finished'}
    if not ended:
        return outcomes
    return [outcome for outcome in outcomes
            if outcome.kind.act != 'started' or (outcome.kind.queue, outcome.entry_id) not in ended]
