"""Turns the signals that end a program into an exception at a moment when nothing is half done."""
from __future__ import annotations

import signal
from types import FrameType
from typing import Optional

from .errors import Interrupted

__all__ = ('Interrupts',)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Notes signals while it is entered; `check` raises for them.

    An exception out of the handler itself could strike between the start of a server and the note that it runs, or in
    the middle of the clean-up.
    """

    def __init__(self) -> None:
        self._caught: Optional[signal.Signals] = None
        self._before: dict = {}

    def check(self) -> None:
        """Raise `Interrupted` where a signal came."""
        if self._caught:
            raise Interrupted(self._caught)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self._caught = self._caught or signal.Signals(number)

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
