"""Answers that are kept for a moment, so that ten browsers cost Redis as much as one."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

__all__ = ('Recent',)

#: Seconds that an answer is good for.
KEPT = 1.0
#: An answer that took long is good for so many times as long: Redis is busy with the page a fifth of its time at most.
SPARED = 4.0
#: Answers that are kept; a search has one for each text.
MOST = 64


@dataclass
class _Answer:
    lock: Lock = field(default_factory=Lock)
    known: bool = False
    value: Any = None
    #: When it is to be asked for anew.
    stale: float = 0.0


class Recent:
    """What was found out a moment ago. Who asks while another finds it out gets the last answer, or waits for the
    first one. That nobody could answer is an answer too, and is raised again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    def get(self, key: Hashable, find: Callable[[], Any]) -> Any:
        answer = self._of(key)
        # The last answer does for who comes while it is made anew.
        if answer.lock.acquire(blocking=not answer.known):
            try:
                if monotonic() >= answer.stale:
                    self._renew(answer, find)
            finally:
                answer.lock.release()
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def forget(self) -> None:
        """Something was changed: what is known is no longer so."""
        with self._lock:
            self._answers.clear()

    def _of(self, key: Hashable) -> _Answer:
        with self._lock:
            answer = self._answers.setdefault(key, _Answer())
            self._answers.move_to_end(key)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
            return answer

    @staticmethod
    def _renew(answer: _Answer, find: Callable[[], Any]) -> None:
        begun = monotonic()
        try:
            answer.value = find()
            answer.stale = monotonic() + max(KEPT, SPARED * (monotonic() - begun))
        except Exception as exc:
            answer.value = exc
            answer.stale = monotonic() + KEPT
        answer.known = True
