"""Statistics of waits of which some are not over yet."""
from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import NamedTuple, Optional

__all__ = ('Wait', 'Waits')


class Wait(NamedTuple):
    """How long a task waited from publish to start.

    Attributes:
        seconds: its length.
        open: the wait goes on, or a wait that goes on could be this one; it is at least `seconds`.
    """

    seconds: float
    open: bool = False

    def __str__(self) -> str:
        size = f'{self.seconds * 1000:.0f} ms' if self.seconds < 0.9995 else f'{self.seconds:.1f} s'
        return f'>{size}' if self.open else size


class Waits:
    """The waits of one tenant's tasks, those that did not start included.

    A task that did not start counts with its age, which is less than its wait will be. So a quantile with such a task
    at or below it is a lower bound and says so; one below them all is exact.
    """

    def __init__(self, waits: Iterable[Wait]) -> None:
        self._sorted = sorted(waits)

    def __len__(self) -> int:
        return len(self._sorted)

    def quantile(self, share: float) -> Optional[Wait]:
        """The shortest wait that `share` of the tasks did not exceed; None without tasks."""
        if not self._sorted:
            return None
        place = max(1, ceil(share * len(self._sorted)))
        return Wait(self._sorted[place - 1].seconds, any(wait.open for wait in self._sorted[:place]))

    @property
    def median(self) -> Optional[Wait]:
        return self.quantile(0.5)

    @property
    def longest(self) -> Optional[Wait]:
        return self.quantile(1.0)
