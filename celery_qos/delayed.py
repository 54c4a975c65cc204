"""The tasks of a queue that wait for their time."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from .codec import object_of, time_of
from .path import keys_of

if TYPE_CHECKING:
    from .store import Delayed, Store

__all__ = ('DelayedTasks', 'DelayedTask')

_PAGE = 100


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


class DelayedTasks:
    """A collection of `DelayedTask`, the earliest first; what comes and goes while it is gone through may be missed.

    Arguments:
        store: opens a `Store`.
        queue: the queue's name.
    """

    def __init__(self, store: Callable[[], AbstractContextManager[Store]], queue: str) -> None:
        self._store, self.queue = store, queue

    def __len__(self) -> int:
        with self._store() as store:
            return store.count_delayed(self.queue)

    def __iter__(self) -> Iterator[DelayedTask]:
        last: tuple[str, int | str] = ('', '')
        while True:
            with self._store() as store:
                page = store.delayed(self.queue, last, _PAGE)
            if not page:
                return
            yield from map(_task, page)
            last = page[-1].place, page[-1].due_ms

    def cancel(self, *task_ids: str) -> list[str]:
        """Have these tasks not run. Their state becomes ``REVOKED`` as soon as a worker is there to tell.

        Returns:
            Those of `task_ids` that were there; the others are unknown, or due already.
        """
        with self._store() as store:
            return store.cancel(self.queue, task_ids)


def _task(delayed: Delayed) -> DelayedTask:
    headers = object_of(delayed.fields.get(b'headers'))
    keys, retries = keys_of(delayed.tenant), headers.get('retries')
    return DelayedTask(
        str(headers.get('id', '')), str(headers.get('task', '')), keys[0] if len(keys) == 1 else tuple(keys),
        delayed.sub_queue, time_of(delayed.due_ms), retries if isinstance(retries, int) else 0)
