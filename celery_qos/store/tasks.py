"""A task's way: into its tenant's stream, to a worker, and out."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..checks import hint
from ..errors import ConfigError, QueueFull, SchemaMismatch
from ..publication import Publication
from ..scripts import WritesRefused, script
from .calls import MOST_ROUNDS, SLOW_IDS_PER_CALL, batches, in_ms
from .database import SCHEMA_VERSION, Database
from .replies import Delivery, Tracked, delivery_of


class Tasks(Database):
    def enqueue(self, *args: Any, **kwargs: Any) -> str:
        """Put a task into its tenant's stream and dispatch. The arguments are those of a `Publication`.

        Returns:
            What became of it: ``egress``, ``waits``, ``delayed``, ``expired``, ``seen`` where the message had been
            published before, ``dropped`` where the tenant's oldest task went for it, ``full`` where it is a dead
            letter.

        Raises:
            QueueFull: the tenant or the sub-queue has as many waiting as it may.
            ConfigError: there is no such sub-queue.
            SchemaMismatch: the queue's keys follow another layout.
        """
        outcome, = self.enqueue_all([Publication(*args, **kwargs)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def enqueue_all(self, publications: Sequence[Publication]) -> list[Union[str, Exception]]:
        """Enqueue several tasks in one round trip.

        Returns:
            Of each what became of it, or the error, as `enqueue` has them.

        Raises:
            redis.ConnectionError, redis.TimeoutError: it is not known which of them are in their queue. With their
                message ids they can be enqueued again.
        """
        enqueue = script('enqueue')
        calls = [([self.namespace(each.queue)], each.arguments) for each in publications]
        try:
            replies = enqueue.batch(self._wire, calls)
        except (RedisConnectionError, RedisTimeoutError):
            # The connection may have been idle for too long.
            replies = enqueue.batch(self._wire, calls)
        return [self._outcome(each, reply) for each, reply in zip(publications, replies)]

    def _outcome(self, publication: Publication, reply: Any) -> Union[str, Exception]:
        queue, tenant, sub_queue = publication.queue, publication.tenant, publication.sub_queue
        if isinstance(reply, (ReadOnlyError, WritesRefused)):
            self.note_refusal()
        if isinstance(reply, Exception):
            return reply
        outcome = (reply[0] if isinstance(reply, list) else reply).decode()
        if outcome == 'schema':
            return SchemaMismatch(queue, reply[1].decode(errors='replace'), SCHEMA_VERSION)
        if outcome == 'unknown':
            return ConfigError(unknown_sub_queue(queue, sub_queue, [name.decode() for name in reply[1:]]))
        if outcome == 'full':
            full = QueueFull(queue, reply[2].decode(), tenant, reply[3])
            if reply[1] != b'dead-letter':
                return full
            self._notices.warn((queue, tenant), '%s; the new task is in the dead letters', full)
        elif outcome == 'dropped':
            text = 'queue %r: tenant %r is full, its oldest task was dropped'
            self._notices.warn((queue, tenant), text, queue, tenant)
        return outcome

    def settle(self, queue: str, ids: Iterable[str]) -> int:
        """Remove finished tasks from egress and dispatch; returns how many were there."""
        return sum(self.run('settle', queue, *some) for some in batches(ids))

    def settle_command(self, queue: str, ids: list[str]) -> list:
        """As `settle`, for who sends it by themselves: at most `IDS_PER_CALL`. A server may not know the script yet."""
        return ['EVALSHA', script('settle').sha, 1, self.namespace(queue), *ids]

    def started(self, queue: str, consumer: str, tasks: Iterable[Tracked], lease_seconds: float = 60.0) -> int:
        """Tracked tasks were acknowledged at their start: their slots are free, they stay in flight until `finished`.

        Arguments:
            lease_seconds: of the lease that a consumer gets which has none any more.
        """
        return sum(self.run('started', queue, consumer, in_ms(lease_seconds), *[
            part for task in some for part in (task.entry_id, task.sub_queue, task.tenant)])
            for some in batches(tasks, SLOW_IDS_PER_CALL))

    def finished(self, queue: str, consumer: str, tasks: Iterable[Tracked]) -> int:
        """Tracked tasks have ended, whether acknowledged before or not; dispatches. Returns how many were in flight."""
        return sum(self.run('finished', queue, consumer, *[
            part for task in some for part in (
                task.entry_id, task.sub_queue, task.tenant, task.cost, '' if task.seconds is None else task.seconds)])
            for some in batches(tasks, SLOW_IDS_PER_CALL))

    def requeue(self, queue: str, ids: Iterable[str], counted: bool) -> int:
        """Put delivered tasks back into egress; `counted` where the delivery failed, so that the task is a dead letter
        when that was too often. Returns how many went back."""
        total = 0
        for some in batches(ids):
            moved, died = self.run('requeue', queue, int(counted), *some)
            total += moved
            self._note_dead(queue, died)
        return total

    def _note_dead(self, queue: str, count: int) -> None:
        """Say in the log that tasks were delivered in vain too often."""
        if count:
            self._notices.warn((queue, 'dead'), 'queue %r: %d tasks were delivered max_deliveries times in vain; they '
                               'are in the dead letters', queue, count)

    def bury(self, queue: str, ids: Iterable[str], reason: str) -> int:
        """Put delivered tasks among the dead letters; returns how many were there."""
        return sum(self.run('bury', queue, reason, *some) for some in batches(ids))

    def get(self, queue: str, consumer: str, slots: int, lease_seconds: float) -> Optional[Delivery]:
        """Deliver one task without waiting. `slots`: the consumer's, with one for this task.

        Raises:
            redis.ConnectionError, redis.TimeoutError: it may have been delivered.
        """
        for _ in range(MOST_ROUNDS):
            entry = self.run_once('get', queue, consumer, slots, in_ms(lease_seconds))
            if entry != []:
                break
        return delivery_of(queue, entry[0].decode(), entry[1]) if entry else None


def unknown_sub_queue(queue: str, name: str, known: list[str]) -> str:
    if not known:
        return f'sub_queue: {name!r}: queue {queue!r} has no sub-queues'
    return f'sub_queue: {name!r} is unknown in queue {queue!r}; {hint(name, known)}'
