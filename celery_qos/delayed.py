"""The tasks of a queue that wait for their time."""
from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Optional

from .codec import object_of, time_of
from .paged import Paged
from .path import key_of

if TYPE_CHECKING:
    from .store import Delayed, Store

__all__ = ('DelayedTasks', 'DelayedTask')


class DelayedTask(NamedTuple):
    """A task with an `eta` or a `countdown`, or one that is retried later."""

    task_id: str
    #: The task's name.
    name: str
    tenant: str | tuple[str, ...]
    #: The sub-queue that it names; '' for none.
    sub_queue: str
    due: datetime
    retries: int


class DelayedTasks(Paged['Delayed', DelayedTask]):
    """A collection of `DelayedTask`, the earliest first; what comes and goes while it is gone through may be missed."""

    def _count(self, store: Store) -> int:
        return store.count_delayed(self.queue)

    def _page(self, store: Store, last: Optional[Delayed]) -> list[Delayed]:
        return store.delayed(self.queue, (last.place, last.due_ms) if last else ('', ''))

    def _item(self, row: Delayed) -> DelayedTask:
        return _task(row)

    def cancel(self, *task_ids: str) -> list[str]:
        """Have these tasks not run. Their state becomes ``REVOKED`` as soon as a worker is there to tell.

        Returns:
            Those of `task_ids` that were there; the others are unknown, or due already.
        """
        with self._store() as store:
            return store.cancel(self.queue, task_ids)


def _task(delayed: Delayed) -> DelayedTask:
    headers = object_of(delayed.fields.get(b'headers'))
    retries = headers.get('retries')
    return DelayedTask(
        str(headers.get('id', '')), str(headers.get('task', '')), key_of(delayed.tenant), delayed.sub_queue,
        time_of(delayed.due_ms), retries if isinstance(retries, int) else 0)
