"""What is measured: figures, the cases that yield them, and how big a run is."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from .brokers import Broker

__all__ = ('LONG', 'LONGEST', 'LONGEST_FIRST', 'Figure', 'Case', 'Size', 'BenchmarkError', 'quantile')

#: The figure of each case that says how long the longest call of a script was.
LONGEST = 'longest script call'
#: The same for the first calls on a server, which compile the script.
LONGEST_FIRST = 'longest first script call'
#: Milliseconds that either may last.
LONG = 5.0
T = TypeVar('T')


class BenchmarkError(Exception):
    """Something did not start, did not end in time, or ended by itself."""


class Figure(NamedTuple):
    """One measured value."""

    workload: str
    case: str
    name: str
    broker: str
    value: float
    unit: str


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all is not above."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


class Size(Enum):
    """How big a run is: `full` is what figures are quoted from, `quick` takes minutes, `smoke` seconds."""

    FULL = 'full'
    QUICK = 'quick'
    SMOKE = 'smoke'

    def of(self, full: T, quick: T, smoke: T) -> T:
        """The one of three that is this size's."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: smoke}[self]


class Case(Protocol):
    """One thing to measure, on each of some brokers."""

    @property
    def workload(self) -> str: ...

    @property
    def name(self) -> str: ...

    #: Names in `brokers.BROKERS`.
    @property
    def brokers(self) -> Sequence[str]: ...

    #: Measured in the first round only: an exact count, or a long one.
    @property
    def once(self) -> bool: ...

    def measure(self, broker: Broker) -> Iterable[Figure]:
        """Its figures on a broker that has just been reset."""
