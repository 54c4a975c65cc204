"""What is sent, by whom, and how long a task takes."""
from __future__ import annotations

from dataclasses import dataclass

__all__ = ('Sender', 'SENDERS', 'TASK_SECONDS')

#: How long one task takes.
TASK_SECONDS = 0.03


@dataclass(frozen=True)
class Sender:
    """A tenant that sends a batch of tasks at regular intervals."""

    tenant: str
    #: Tasks in a batch.
    tasks: int
    #: Seconds from one batch to the next.
    every: float
    #: Seconds until the first batch.
    first: float = 0.0

    def __str__(self) -> str:
        batch = '1 task' if self.tasks == 1 else f'{self.tasks} tasks'
        return f'tenant {self.tenant} sends {batch} every {"second" if self.every == 1 else f"{self.every:g} s"}'


#: 34.3 tasks/s for a worker that does 33.3: it barely keeps up. The quiet tenant starts half a second later, so that no
#: race decides which of the two is first.
SENDERS = (Sender('0', tasks=1, every=1.0, first=0.5), Sender('2', tasks=100, every=3.0))
