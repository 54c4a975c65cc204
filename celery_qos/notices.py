"""How the log tells of trouble: why, and of what may happen a thousand times a second, the first and a count."""
from __future__ import annotations

from time import monotonic
from typing import Any

from kombu.log import get_logger

__all__ = ('Notices', 'INTERVAL', 'reason')

logger = get_logger(__name__)

#: Seconds between two lines about the same.
INTERVAL = 10.0
#: Subjects that are remembered; there may be any number of tenants.
_MAX_SUBJECTS = 1000


def reason(exc: BaseException) -> str:
    """What went wrong; redis-py's errors leave that out of their repr."""
    return f'{type(exc).__name__}: {exc}'


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
