"""What is put into a queue at once: a task, and what the script that enqueues it has to know of it."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

__all__ = ('Publication',)


class Publication(NamedTuple):
    """A task on its way into a queue."""

    queue: str
    #: The tenant's path.
    tenant: str
    #: 0 to 9, among the tenant's own tasks; 0 is served first.
    priority: int
    #: Of the entry. The first may be ``expires``: until when the task may start, in ms.
    fields: Mapping[str, Union[str, bytes]]
    #: The one that the task names.
    sub_queue: str = ''
    #: Its priority, from which the sub-queue follows where none is named.
    percent: Optional[float] = None
    #: It was admitted before, so that no capacity limits it.
    exempt: bool = False
    #: A message of the same id enters once.
    message_id: str = ''
    #: For how long its id is remembered at least; None for never.
    remember_seconds: Optional[float] = None
    task_id: str = ''
    #: It is delayed until then, in ms of the server's clock.
    due_ms: Optional[int] = None

    @property
    def arguments(self) -> list:
        """Of the script."""
        if not 0 <= self.priority <= 9:
            raise ValueError(f'priority {self.priority!r} is not 0 to 9')
        details: dict[str, Any] = {}
        if self.sub_queue:
            details['named'] = self.sub_queue
        if self.percent is not None:
            details['percent'] = float(self.percent)
        if self.exempt:
            details['exempt'] = True
        if self.due_ms is not None:
            details.update(due=self.due_ms, id=self.task_id)
        arguments = [self.tenant, self.priority, self.message_id, int((self.remember_seconds or 0) * 1000),
                     json.dumps(details) if details else '']
        for pair in self.fields.items():
            arguments += pair
        return arguments
