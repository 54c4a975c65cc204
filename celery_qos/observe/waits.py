"""How long tasks waited, as a histogram with few buckets: small enough to keep for each tenant, and to add up."""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

__all__ = ('Waits', 'BOUNDS')

#: Upper bounds of the buckets, in seconds, a factor of the square root of 10 apart; one more bucket has the rest.
BOUNDS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0, 316.0, 1000.0, 3160.0, 10000.0)


@dataclass(frozen=True)
class Waits:
    """Waits from a task's publication (or the time it was delayed to) until it was handed to a worker.

    Arguments:
        counts: tasks in each bucket of `BOUNDS`, and in the one past the last bound.
        total: seconds that all of them waited together.
        seconds: the time in which these were.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.count / self.seconds if self.seconds else 0.0

    def quantile(self, q: float) -> Optional[float]:
        """The wait, in seconds, that the share `q` of the tasks did not exceed: interpolated in its bucket, as
        Prometheus' histogram_quantile does it; the last bound for what is past it. None without tasks."""
        if not self.count:
            return None
        rank, seen = q * self.count, 0
        for index, count in enumerate(self.counts):
            if count and seen + count >= rank:
                if index == len(BOUNDS):
                    return BOUNDS[-1]
                low = BOUNDS[index - 1] if index else 0.0
                return low + (BOUNDS[index] - low) * max(rank - seen, 0) / count
            seen += count
        return BOUNDS[-1]

    def __add__(self, other: Waits) -> Waits:
        return Waits(tuple(map(sum, zip(self.counts, other.counts))), self.total + other.total,
                     max(self.seconds, other.seconds))

    @classmethod
    def of_buckets(cls, counts: Mapping[int, int], total: float = 0.0, seconds: float = 0.0) -> Waits:
        """From bucket number to count."""
        return cls(tuple(counts.get(index, 0) for index in range(len(BOUNDS) + 1)), total, seconds)


def bucket_of(seconds: float) -> int:
    """The number of the bucket that a wait belongs to."""
    return bisect_left(BOUNDS, seconds)
