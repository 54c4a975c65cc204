"""Takes the entries of a list to a list on another server: each once, whatever is interrupted, and when.

What is under way is kept at its origin, under a number that grows. It is sent, again where its origin does not know
that it came in; who takes it in remembers the last number, and takes each once; then its origin drops it. So two that
ferry the same list at a time do no harm either.
"""
from __future__ import annotations

from typing import Any
from uuid import uuid4

from redis import Redis

from ..scripts import script

__all__ = ('Ferry',)

#: Entries that go at once.
BATCH = 100
#: Seconds for which is remembered what came in, when all did: for one that was held up meanwhile.
REMEMBERED = 7 * 24 * 3600


class Ferry:
    """Arguments: client and key of the list that is emptied, client and key of the one that is filled, and what keys of
    its own begin with."""

    def __init__(self, origin: Redis, source: str, other: Redis, target: str, prefix: str) -> None:
        self._origin, self._other, self._target = origin, other, target
        self._keys = [source, f'{prefix}sent:{source}', f'{prefix}number:{source}']
        self._came = f'{prefix}came:'

    def carry(self, most: int = BATCH) -> int:
        """Take some over, or what an earlier ferry did not; returns how many, 0 where that was all."""
        reply = script('ferry_take')(self._origin, self._keys, most, uuid4().hex)
        if not reply:
            return 0
        name, number, *entries = reply
        if not entries:
            self._end(name)
            return 0
        script('ferry_put')(self._other, [self._target, self._came_as(name)], number, *entries)
        script('ferry_drop')(self._origin, self._keys[1:], name, number)
        return len(entries)

    def under_way(self) -> int:
        """How many entries were sent, and are not known to have come in."""
        return self._origin.llen(self._keys[1])

    def finish(self) -> None:
        """Only what is under way."""
        if self.under_way():
            self.carry()
        name: Any = self._origin.hget(self._keys[2], 'name')
        if name:
            self._end(name)

    def _end(self, name: bytes) -> None:
        """All came in. Killed in between, the next ferry does it again."""
        self._other.expire(self._came_as(name), REMEMBERED)
        script('ferry_end')(self._origin, self._keys[1:], name)

    def _came_as(self, name: bytes) -> str:
        return self._came + name.decode()
