"""What the checks are given: the app, the server, the queue, and what is known of them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ..config import Config, QoS
from ..store import Store
from .audit import Audit

__all__ = ('Patient', 'Progress', 'no_progress')

#: What is looked at, how much of it was, and of how much.
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Patient:
    """A server, and where `queue` is not '', one of its queues."""

    app: Any
    store: Store
    configured: Config
    #: Mend what can be mended.
    fix: bool = False
    progress: Progress = no_progress
    queue: str = ''
    _known: dict[Any, Any] = field(default_factory=dict)

    @property
    def client(self) -> Any:
        return self.store.client

    @property
    def qos(self) -> QoS:
        """What the app's config says of the queue."""
        return self.configured.of(self.queue)

    @property
    def look(self) -> Audit:
        """Compares the queue's accounts."""
        return Audit(self.store, self.queue)

    @property
    def audit(self) -> Audit:
        """The same, and mends them where it is to."""
        return Audit(self.store, self.queue, self.fix)

    @property
    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        if 'info' not in self._known:
            self._known['info'] = self.client.info()
        return self._known['info']

    @property
    def refusal(self) -> Optional[RedisError]:
        """Why the server takes no writes, so that nothing can be mended; None where it does."""
        if 'refusal' not in self._known:
            self._known['refusal'] = self.store.refusal()
        return self._known['refusal']

    def remember(self, what: str, value: Any) -> None:
        """For a later check of this queue."""
        self._known[self.queue, what] = value

    def recall(self, what: str) -> Any:
        return self._known.get((self.queue, what))

    def setting(self, name: str) -> Optional[str]:
        """Of the server's configuration; None where this user, or anybody, may not read it."""
        known = self._known.setdefault('settings', {})
        if name not in known:
            try:
                known[name] = self.client.config_get(name).get(name)
            except (NoPermissionError, ResponseError):
                known[name] = None
        return known[name]
