"""A value that costs something to read: read again when somebody asks and it is too old."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from time import monotonic
from typing import Generic, Optional, TypeVar

from ..notices import reason

__all__ = ('Kept', 'Answer')

T = TypeVar('T')
#: Seconds after which what failed is tried again.
RETRY = 1.0


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a read came to."""

    value: Optional[T]
    #: Why there is no value; '' where there is one.
    error: str
    #: When it ended, by `time.monotonic`.
    at: float
    #: How long it took, in seconds.
    took: float


class Kept(Generic[T]):
    """Reads in a thread of its own, one at a time, so that who asks waits no longer than it may.

    Arguments:
        read: returns the value, or raises.
        max_age: seconds for which an answer is as good as a new one.
        patience: seconds that who asks waits for a new one.
        share: of all time, at most this part is spent reading; what failed is tried again after `RETRY` seconds.
    """

    def __init__(self, read: Callable[[], T], max_age: float, patience: float, share: float = 1.0) -> None:
        self._read, self._max_age, self._patience, self._share = read, max_age, patience, share
        self._lock = Lock()
        self._thread: Optional[Thread] = None
        self._last: Optional[Answer[T]] = None

    def get(self) -> tuple[Optional[Answer[T]], bool]:
        """The newest answer, None before the first; and whether it is new enough."""
        with self._lock:
            if self._is_fresh():
                return self._last, True
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name='celery-qos-metrics', daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(self._patience)
        return self._last, not thread.is_alive()

    def _is_fresh(self) -> bool:
        if self._last is None:
            return False
        enough = min(self._max_age, RETRY)
        if not self._last.error:
            enough = max(self._max_age, self._last.took / self._share - self._last.took)
        return monotonic() - self._last.at < enough

    def _run(self) -> None:
        value, error, began = None, '', monotonic()
        try:
            value = self._read()
        except Exception as exc:    # whatever it is, a scrape is answered, and says that something is wrong
            error = reason(exc)
        now = monotonic()
        self._last = Answer(value, error, now, now - began)
