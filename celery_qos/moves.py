"""Moves a tenant's waiting tasks to another tenant, sub-queue or queue."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Optional

from .errors import ConfigError
from .look import Look
from .path import keys_of
from .store import Store
from .tenant import HEADER, SUB_QUEUE, keep_for_retries

__all__ = ('Move', 'Moved')

#: Tasks that one call moves: others wait while the server works on it.
AT_ONCE = 12
#: Of a tenant's streams.
PRIORITIES = range(10)


@dataclass(frozen=True)
class Moved:
    """What a move did, or would do."""

    #: Tasks that went.
    count: int
    #: Tasks that were asked for and are not among those that wait: delivered meanwhile, delayed, or unknown.
    missing: tuple[str, ...] = ()
    #: The capacity of where they go kept others from it.
    full: bool = False


@dataclass(frozen=True)
class Move:
    """A move of waiting tasks, in the order in which they would have been served.

    Each task is at each moment in one place. What was interrupted is gone on with by the same move again.

    Arguments:
        queue: where they wait.
        path: of the tenant; tasks of tenants inside it stay.
        to_path: of the tenant that they go to; None for the same.
        to_sub_queue: the sub-queue that they go to; None for the same, or in another queue for the one that each task
            names, or that this queue says.
        to_queue: None for the same.
        route: exchange and routing key that lead to `to_queue`: retries go by them.
        sub_queue: only what waits there; None for all.
        count: how many at most.
        task_ids: only these.
        force: no capacity limits it.
    """

    queue: str
    path: str
    to_path: Optional[str] = None
    to_sub_queue: Optional[str] = None
    to_queue: Optional[str] = None
    route: tuple[str, str] = ('', '')
    sub_queue: Optional[str] = None
    count: Optional[int] = None
    task_ids: frozenset[str] = frozenset()
    force: bool = False

    def run(self, store: Store, only_look: bool = False,
            progress: Callable[[int, int], None] = lambda moved, of: None) -> Moved:
        """Move them, as many as wait now.

        Raises:
            ConfigError: there is no such sub-queue, or they are there already.
        """
        if self.to_path is None and self.to_sub_queue is None and self.to_queue in (None, self.queue):
            raise ConfigError('move: nothing is said of where to; name a tenant, a sub-queue or a queue')
        ids, declared = self._ids(store), store.sub_queues(self.queue)
        of = sum(Look(store).waiting_of(self.queue, ids))
        left = of if self.count is None else min(of, self.count)
        moved, missing = 0, set(self.task_ids)
        for tenant_id in ids:
            sub_queue = tenant_id.partition(':')[0]
            # One that is declared no longer takes none.
            same = sub_queue if sub_queue in declared else ''
            for priority in PRIORITIES:
                for tasks in self._pages(store, tenant_id, priority):
                    tasks, full = tasks[:left - moved], False
                    if tasks:
                        count, full = self._move(store, tenant_id, priority, tasks, same, only_look, moved)
                        moved += count
                    missing -= {task_id for task_id, _, _, _ in tasks}
                    progress(moved, left)
                    if full or moved >= left or self.task_ids and not missing:
                        return Moved(moved, tuple(sorted(missing)), full)
        return Moved(moved, tuple(sorted(missing)))

    def _ids(self, store: Store) -> list[str]:
        """Of the tenant in each sub-queue. Where others are inside it, its own tasks are those of a child."""
        names = [name for name in store.every_sub_queue(self.queue) if self.sub_queue in (None, name)]
        if self.sub_queue is None and not self.task_ids and self.to_path in (None, self.path) \
                and self.to_queue in (None, self.queue):
            # What is there already stays.
            names = [name for name in names if name != self.to_sub_queue]
        if not names:
            raise ConfigError(f'sub_queue: {self.sub_queue!r} is unknown in queue {self.queue!r}')
        return [tenant_id for name in names for tenant_id in Look(store).own_ids(name, self.path)]

    def _pages(self, store: Store, tenant_id: str, priority: int) -> Iterator[list[tuple[str, str, Any, Any]]]:
        """Id, entry, headers and properties of the tasks that are meant, page by page; a page may have none."""
        after = ''
        while page := store.peek(self.queue, tenant_id, priority, after, AT_ONCE):
            after = page[-1][0]
            rows = [(entry_id, _object(headers), _object(properties)) for entry_id, headers, properties in page]
            tasks = [(str(headers.get('id', '')), entry_id, headers, properties)
                     for entry_id, headers, properties in rows]
            if self.task_ids:
                tasks = [task for task in tasks if task[0] in self.task_ids]
            yield tasks

    def _move(self, store: Store, tenant_id: str, priority: int, tasks: list[tuple[str, str, Any, Any]],
              same: str, only_look: bool, before: int) -> tuple[int, bool]:
        """How many went, and whether there was no room for all."""
        moved = 0
        for named, some in self._by_name(same, tasks):
            to = (self.to_queue or self.queue, self.path if self.to_path is None else self.to_path, named)
            rows = [(entry_id, self._headers(headers), self._properties(properties))
                    for _, entry_id, headers, properties in some]
            count, room = store.move(self.queue, tenant_id, priority, to, rows, self.force, only_look)
            if only_look and room is not None:
                # What would have gone before is not there.
                count = min(count, max(0, room - before - moved))
                room -= before + moved
            moved += count
            if room is not None and room < len(some):
                return moved, True
        return moved, False

    def _by_name(self, same: str, tasks: list) -> Iterator[tuple[str, list]]:
        """Tasks that follow each other and go to the same sub-queue, and its name."""
        if self.to_sub_queue is not None or self.to_queue in (None, self.queue):
            yield same if self.to_sub_queue is None else self.to_sub_queue, tasks
            return
        for name, some in groupby(tasks, lambda task: str(task[2].get('sub_queue') or '')):
            yield name, list(some)

    def _headers(self, headers: dict[str, Any]) -> str:
        """What the task itself, its retries and its children go by."""
        stamped: dict[str, Any] = {}
        if self.to_path is not None:
            parts = keys_of(self.to_path)
            stamped[HEADER] = parts[0] if len(parts) == 1 else parts
        if self.to_sub_queue is not None:
            stamped[SUB_QUEUE] = self.to_sub_queue
        new = {**headers, **stamped}
        for header, value in stamped.items():
            keep_for_retries(new, header, value)
        return _changed(headers, new)

    def _properties(self, properties: dict[str, Any]) -> str:
        if self.to_queue in (None, self.queue):
            return ''
        exchange, routing_key = self.route
        info = properties.get('delivery_info')
        info = {**(info if isinstance(info, dict) else {}), 'exchange': exchange, 'routing_key': routing_key}
        return _changed(properties, {**properties, 'delivery_info': info})


def _object(text: bytes) -> dict[str, Any]:
    """As it is: what JSON has no type for stays spelled as it was."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """'' where it stays as it is, and where it was none of ours."""
    return json.dumps(new) if old and old != new else ''
