"""What `self.request` of a running task knows of its delivery.

`tenant`: its key, or the tuple of its keys. `sub_queue`: the one that it waited in, '' where the queue has none.
`queue_wait`: seconds from its publication, or the time that it was delayed to, until it started, in whichever pool.
`deliveries`: 1, and one more for each delivery before that failed.

A task that is called directly, runs eagerly or came by another transport has none of these: ``self.request.get(name)``
is None then.
"""
from __future__ import annotations

from time import monotonic
from typing import Any

from celery import signals

from .path import key_of
from .store import Delivery

__all__ = ('install', 'stamp', 'PROPERTY')

#: The message's property that travels to the pool. Not a header: retries take those along, and this is of one delivery.
PROPERTY = 'celery_qos'


def install() -> None:
    """Have the tasks that this process runs, and those that it forks, know."""
    signals.task_prerun.connect(_tell, dispatch_uid='celery_qos.request', weak=False)


def stamp(message: dict[str, Any], delivery: Delivery, wait: float) -> None:
    """Note in `message` what its task is to know; it has waited for so many seconds up to now."""
    fields = delivery.fields
    failed = fields.get(b'deliveries', b'0')
    message['properties'][PROPERTY] = {
        'tenant': fields.get(b'tenant', b'').decode(errors='replace'),
        'sub_queue': fields.get(b'sub', b'').decode(errors='replace'),
        'deliveries': 1 + (int(failed) if failed.isdigit() and len(failed) < 16 else 0),
        # One clock for all processes of the machine, and nobody sets it.
        'since': monotonic() - wait,
    }


def _tell(task: Any, **kwargs: Any) -> None:
    """Receiver of `celery.signals.task_prerun`."""
    request = task.request
    known = (request.properties or {}).get(PROPERTY)
    if known is not None:
        request.queue_wait = max(monotonic() - known['since'], 0.0)
        request.tenant = key_of(known['tenant'])
        request.sub_queue, request.deliveries = known['sub_queue'], known['deliveries']
