"""How a demo can end early."""
from __future__ import annotations

from signal import Signals

from ..errors import QoSError

__all__ = ('DemoError', 'Interrupted')


class DemoError(QoSError):
    """The demo cannot run, or cannot go on; the text says why and what to do."""


class Interrupted(Exception):
    """A signal asked the demo to end.

    Attributes:
        signal: which one.
    """

    def __init__(self, signal: Signals) -> None:
        super().__init__(signal.name)
        self.signal = signal
