"""Kombu's own queues, for replies to remote control and the like: lists, as on the stock transport."""
from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Optional

from redis.exceptions import OutOfMemoryError

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ('ReplyQueues',)

#: A reply queue and its messages are kept for its x-expires, but at least this long, in ms.
TRANSIENT_TTL_MS = 3600 * 1000
#: How the names of queues for replies to remote control end.
MAILBOX = '.pidbox'
#: Queues whose kind is remembered.
_MAX_KINDS = 1000


class ReplyQueues:
    """Which queues they are, as far as a channel was told or has asked Redis, where they are marked while in use."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: Queue to for how many ms its messages are kept; None for a queue of tasks.
        self._kinds: dict[str, Optional[int]] = {}
        #: Those that were declared here: for how many ms they are marked as such, and since when.
        self._marked: dict[str, tuple[int, float]] = {}
        #: Those that Redis had no memory for: they get no replies, which is better than to stop working.
        self.unmarked: set[str] = set()

    def add(self, queue: str, expires_ms: Optional[int]) -> None:
        """A reply queue was declared."""
        self._kinds[queue] = ttl_ms = max(expires_ms or 0, TRANSIENT_TTL_MS)
        try:
            self._channel.store.mark_transient(queue, ttl_ms)
            self._marked[queue] = (ttl_ms, monotonic())
        except OutOfMemoryError:
            self.unmarked.add(queue)

    def add_tasks(self, queue: str) -> None:
        """A queue of tasks was declared."""
        self._kinds[queue] = None

    def forget(self, queue: str) -> bool:
        """The queue was deleted, or is none; whether it was a reply queue."""
        self._marked.pop(queue, None)
        return bool(self._kinds.pop(queue, None))

    def ttl_ms(self, queue: str) -> Optional[int]:
        """For how long the queue's messages are kept; None for a queue of tasks."""
        if queue not in self._kinds:
            if len(self._kinds) > _MAX_KINDS:
                self._kinds.clear()
            self._kinds[queue] = self._channel.store.transient_ttl_ms(queue)
            if self._kinds[queue] is None and queue.endswith(MAILBOX):
                # A client on the stock transport asks workers of both kinds, and marks nothing.
                self._kinds[queue] = TRANSIENT_TTL_MS
        return self._kinds[queue]

    def __contains__(self, queue: str) -> bool:
        return self.ttl_ms(queue) is not None

    def keep(self) -> None:
        """Those that were declared here remain such for as long as the channel polls or publishes."""
        for queue, (ttl_ms, since) in list(self._marked.items()):
            if monotonic() - since > ttl_ms / 3000:
                self._marked[queue] = (ttl_ms, monotonic())
                self._channel.store.keep_transient(queue, ttl_ms)
