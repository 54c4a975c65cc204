"""How much one call does, as others wait while the server works on it."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

#: Ids per call. Settling one, the next is dispatched.
IDS_PER_CALL = 40
#: The same where the server has more to do for each.
SLOW_IDS_PER_CALL = 12
#: So often a worker has what one call left over done, before it leaves it to the sweep.
MOST_ROUNDS = 100


def batches(items: Iterable[Any], size: int = IDS_PER_CALL) -> Iterator[list]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def in_ms(seconds: float) -> int:
    return int(seconds * 1000)
