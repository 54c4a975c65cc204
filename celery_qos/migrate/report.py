"""What a migration did, or would do, of one queue."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

__all__ = ('Moved', 'Progress', 'MOST_NOTED')

#: Called after each step; may raise.
Progress = Callable[[], None]
#: Problems that are told one by one; the others are counted.
MOST_NOTED = 10


@dataclass
class Moved:
    """Of a queue: what moved, and what did not and why. All are numbers of tasks."""

    queue: str
    #: Where the tasks go; another name where that was asked for.
    to: str
    #: What there was when it began: tasks that wait, by kind.
    found: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    #: Of those that moved: they wait for their time.
    delayed: int = 0
    #: Of those that moved: too late to run. Celery is told so.
    expired: int = 0
    #: Of those that moved: workers had been delivered them, and had not acknowledged them.
    unacked: int = 0
    #: Of those that moved: no tenant was found, so that they belong to the one that was given for these.
    without_tenant: int = 0
    #: What workers took while it went on.
    taken: int = 0
    #: Entries that are no tasks; they stay.
    malformed: int = 0
    #: What stock workers have not acknowledged that belongs to no queue of this migration; it stays. The first report
    #: tells of all.
    of_others: int = 0
    #: What other workers hold and have not acknowledged; it stays.
    held: int = 0
    #: Of those workers whose leases are known: in how many seconds they end, unless they are renewed.
    holders: dict[str, float] = field(default_factory=dict)
    #: Dead letters and cancelled tasks; they stay.
    dead: int = 0
    cancelled: int = 0
    #: What still waits where it was: it came meanwhile, or the migration was interrupted.
    left: int = 0
    #: The first problems.
    notes: list[str] = field(default_factory=list)
    #: Path of a tenant to its number among the first tasks of each list, those with the most first; only where nothing
    #: is to move.
    tenants: Optional[dict[str, int]] = None

    @property
    def total(self) -> int:
        """About as many as will have moved."""
        return max(self.moved, sum(self.found.values()) + self.unacked)

    def note(self, text: str, first: bool = False) -> None:
        """Tell of a problem; where it is the `first`, whatever else there is to tell."""
        if text not in self.notes:
            self.notes.insert(0 if first else len(self.notes), text)
            del self.notes[MOST_NOTED:]
