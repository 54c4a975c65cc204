"""Kombu's account of what a channel was delivered and has not settled."""
from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.transport import virtual

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ('QoS',)


class QoS(virtual.QoS):
    """What a channel was delivered and has not settled; the group on egress keeps the same account."""

    channel: Channel

    def ack(self, delivery_tag: str) -> None:
        # First, so that a loop that a pool's thread wakes finds the room.
        self._quick_ack(delivery_tag)
        self.channel.settle(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False, counted: bool = True) -> None:
        """`counted`: the delivery failed."""
        self._quick_ack(delivery_tag)
        if requeue:
            self.channel.requeue(delivery_tag, counted)
        else:
            self.channel.bury(delivery_tag, 'rejected')

    def bury(self, delivery_tag: str, reason: str) -> None:
        """As a reject for good, but the dead letter says why."""
        self._quick_ack(delivery_tag)
        self.channel.bury(delivery_tag, reason)

    def restore_unacked(self) -> list:
        """Hand back everything; the deliveries do not count as failed."""
        self._flush()
        for tag in self._delivered:
            self.channel.requeue(tag, counted=False)
        self._delivered.clear()
        self.channel.flush()
        return []

    @property
    def room(self) -> int:
        """How many more deliveries fit; 0 where the limit, or the worker, allows none."""
        if not self.can_consume():
            return 0
        if 'can_consume' in self.__dict__:
            # Celery's worker_disable_prefetch replaced it, and asks anew before each task.
            return 1
        limit = self.prefetch_count or self.channel.unlimited_prefetch
        return max(limit - self.in_hand, 0 if self.prefetch_count else 1)

    @property
    def in_hand(self) -> int:
        """Deliveries that are not settled."""
        return len(self._delivered) - len(self._dirty)
