"""The server's clock, as far as this process knows it: what is in the ids of entries is told by it."""
from __future__ import annotations

from time import monotonic, time

__all__ = ('ServerClock',)


class ServerClock:
    """Set by replies that tell the server's time; until the first, both clocks are taken to agree. Thread-safe."""

    def __init__(self) -> None:
        #: Seconds that the server's clock is ahead of `time.monotonic`.
        self._ahead = time() - monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return monotonic() + self._ahead

    def set(self, server_ms: int, began: float, ended: float) -> None:
        """The server told its time between these two moments of `time.monotonic`.

        What is known already is kept as far as it agrees: a slow reply says less than a quick one before it did.
        """
        earliest, latest = server_ms / 1000 - ended, server_ms / 1000 - began
        self._ahead = min(max(self._ahead, earliest), latest)
