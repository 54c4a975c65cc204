"""Warnings about what may happen a thousand times a second: the first at once, then the count of the others."""
from __future__ import annotations

from time import monotonic
from typing import Any

from kombu.log import get_logger

__all__ = ('Notices', 'INTERVAL')

logger = get_logger(__name__)

#: Seconds between two lines about the same.
INTERVAL = 10.0
#: Subjects that are remembered; there may be any number of tenants.
_MAX_SUBJECTS = 1000


class Notices:
    """Lines of a log, at most one each `INTERVAL` about one subject."""

    def __init__(self) -> None:
        #: Subject to when it was logged last, and how often not since.
        self._logged: dict[Any, tuple[float, int]] = {}

    def warn(self, subject: Any, text: str, *args: Any) -> None:
        """Log ``text % args`` unless a line about `subject` was logged a moment ago."""
        last, suppressed = self._logged.get(subject, (float('-inf'), 0))
        now = monotonic()
        if now - last < INTERVAL:
            self._logged[subject] = last, suppressed + 1
            return
        if len(self._logged) > _MAX_SUBJECTS:
            self._logged.clear()
        self._logged[subject] = now, 0
        if suppressed:
            text, args = f'{text} (and %d more times in the last %d s)', (*args, suppressed, now - last)
        logger.warning(text, *args)
