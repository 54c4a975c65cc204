"""The safety net: delivers the tasks of workers whose lease has ended, and fills slots that no event filled."""
from __future__ import annotations

from kombu.log import get_logger

from ..store import Store

__all__ = ('sweep',)

logger = get_logger(__name__)


def sweep(store: Store, queue: str, lease_seconds: float) -> None:
    """Sweep one queue until every ended lease is dealt with."""
    while recoveries := store.sweep(queue, lease_seconds):
        for recovery in recoveries:
            logger.warning('the lease of %s on queue %r has ended: its slots are gone, %d tasks are delivered again',
                           recovery.consumer, queue, recovery.tasks)
