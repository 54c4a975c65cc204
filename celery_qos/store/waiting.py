"""What waits: for its turn, or for its time."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from .. import keys
from ..errors import ConfigError
from ..scripts import script
from .calls import SLOW_IDS_PER_CALL, batches
from .queues import Queues
from .replies import Delayed, Delivery, delayed_of, delivery_of, to_bytes, to_text
from .tasks import unknown_sub_queue


class Waiting(Queues):
    def waiting(self, queue: str) -> dict[str, int]:
        """Tasks that wait in tenants' streams, by tenant; where there are sub-queues, by ``sub-queue:tenant``."""
        found: Any = self.client.hgetall(keys.waiting(self.namespace(queue)))
        ids = {to_text(each): int(count) for each, count in found.items() if b':' in each and count.isdigit()}
        return {each.removeprefix(':'): count for each, count in ids.items()}

    def count_waiting(self, queue: str, tenant: str) -> int:
        """Tasks that wait in the streams of a tenant and of those inside it."""
        return self._sum_waiting(queue, [keys.tenant_id(tenant, each) for each in self.every_sub_queue(queue)])

    def count_waiting_in(self, queue: str, sub_queue: str) -> int:
        """Tasks that wait in a sub-queue."""
        return self._sum_waiting(queue, [sub_queue])

    def _sum_waiting(self, queue: str, ids: list[str]) -> int:
        found: Any = self.client.hmget(keys.waiting(self.namespace(queue)), list(map(to_bytes, ids)))
        return sum(int(count) for count in found if count and count.isdigit())

    def peek(self, queue: str, tenant_id: str, priority: int, after: str, count: int) -> list[tuple[str, bytes, bytes]]:
        """Entry id, headers and properties of a tenant's waiting tasks past the one of this entry, oldest first; fewer
        than `count` where they are large, none only where there are no more."""
        found = self.run('peek', queue, to_bytes(tenant_id), priority, after, count)
        return [(entry_id.decode(), headers, properties) for entry_id, headers, properties in found]

    def move(self, queue: str, tenant_id: str, priority: int, to: tuple[str, str, str],
             tasks: Sequence[tuple[str, str, str]], force: bool, only_look: bool) -> tuple[int, Optional[int]]:
        """Move some waiting tasks of a tenant; the order of `tasks` is theirs afterwards.

        Arguments:
            to: queue, tenant's path, and sub-queue or '' for the one that the queue and the tenant say.
            tasks: of each its entry, and its new headers and properties, '' for the old ones.
            force: no capacity limits it.

        Returns:
            How many went, or would go; and how many more there was room for before, None for any number.

        Raises:
            ConfigError: there is no such sub-queue, or they are there already.
        """
        target, tenant, sub_queue = to
        count, *rest = script('move')(
            self.client, [self.namespace(queue), self.namespace(target)], to_bytes(tenant_id), priority,
            to_bytes(tenant), sub_queue, int(force), int(only_look), *[part for task in tasks for part in task])
        if count == -1:
            raise ConfigError(unknown_sub_queue(target, sub_queue, [name.decode() for name in rest]))
        if count == -2:
            raise ConfigError(f'queue {queue!r}: the tasks are there already; name another tenant, sub-queue or queue')
        room, = rest
        return count, None if room < 0 else room

    # -- tasks that wait for their time

    def delayed(self, queue: str, after: tuple[str, int | str] = ('', ''), count: int = 100) -> list[Delayed]:
        """The delayed tasks past the one of this place and due time, the earliest first."""
        place, due = after
        return [delayed_of(*row) for row in self.run('delayed', queue, to_bytes(place), due, count)]

    def delayed_by_id(self, queue: str, task_id: str) -> list[Delayed]:
        """The delayed tasks of this id; more than one where a task is published again under its id."""
        return [delayed_of(*row) for row in self.run('due', queue, task_id)]

    def count_delayed(self, queue: str) -> int:
        return self.client.zcard(keys.delayed(self.namespace(queue)))

    def cancel(self, queue: str, task_ids: Iterable[str]) -> list[str]:
        """Have delayed tasks not run; returns the ids of those that were there."""
        return [task_id.decode() for some in batches(task_ids, SLOW_IDS_PER_CALL)
                for task_id in self.run('cancel', queue, *some)]

    def take_discarded(self, queue: str, count: int) -> list[Delivery]:
        """Take tasks that expired or were cancelled; who takes them tells Celery."""
        return [delivery_of(queue, entry_id.decode(), flat)
                for entry_id, flat in self.run('take_discarded', queue, count)]

    def count_cancelled(self, queue: str) -> int:
        """Tasks that expired or were cancelled, and of which Celery was not told yet."""
        return self.client.xlen(keys.discarded(self.namespace(queue)))
