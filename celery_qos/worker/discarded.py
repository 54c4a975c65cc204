"""Tells Celery of tasks that will not run: those that expired, and delayed ones that were revoked or cancelled."""
from __future__ import annotations

from typing import TYPE_CHECKING

from celery.worker import state
from kombu.log import get_logger

from ..codec import decode

if TYPE_CHECKING:
    from ..channel import Channel

__all__ = ('Discarded',)

logger = get_logger(__name__)


class Discarded:
    """Passes discarded tasks on to the channel's consumer, in no slot.

    Celery takes them for revoked: it stores their state, sends its event and its signal, and runs none of them.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queues: set[str] = set()

    def announce(self, queue: str) -> None:
        """There are some of that queue; called by the thread that sweeps."""
        self._queues.add(queue)
        if poller := self._channel.poller:      # after a lost connection, the sweep tells the next channel
            poller.turn_again()

    def pass_on(self) -> None:
        """Some of them; in the loop."""
        for queue in list(self._queues):
            callbacks = self._channel.reader.callbacks.get(queue, {})
            taken = self._channel.lease.take_discarded(queue) if callbacks else []
            if not taken:
                self._queues.discard(queue)
                continue
            self._channel.connection.cycle.turn_again()
            for delivery in taken:
                try:
                    raw = decode(delivery)
                except ValueError as exc:
                    logger.error('queue %r: discarded entry %s is not a message, it is forgotten: %s', queue,
                                 delivery.entry_id, exc)
                    continue
                # No delivery of egress has such a tag, so nothing is settled by it.
                raw['properties']['delivery_tag'] = f'/{delivery.entry_id}'
                if raw['headers'].get('id') is None:
                    continue        # nobody can ask for it
                state.revoked.add(raw['headers']['id'])
                next(reversed(callbacks.values()))(raw)
