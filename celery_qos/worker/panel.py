"""Celery's remote control of tasks that wait in a worker's memory elsewhere, and in Redis here."""
from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from itertools import islice
from typing import Any

from celery.worker.control import Panel

from ..codec import decode
from ..store import Delivery
from . import remote as remote  # registers its commands

__all__ = ('install',)

#: Delayed tasks of a queue that `scheduled` lists.
MOST_SCHEDULED = 1000


def install() -> None:
    """Have `revoke` and `scheduled` of every worker of this process look among the delayed tasks too."""
    if not hasattr(Panel.data['revoke'], '__wrapped__'):
        Panel.data['revoke'] = _revoke(Panel.data['revoke'])
        Panel.data['scheduled'] = Panel.data['dump_schedule'] = _scheduled(Panel.data['scheduled'])


def _lease(panel: Any) -> Any:
    """That of the worker's channel; None on another transport."""
    return getattr(getattr(panel.consumer.task_consumer, 'channel', None), 'lease', None)


def _revoke(command: Any) -> Any:
    @wraps(command)
    def revoke(panel: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        reply = command(panel, task_id, *args, **kwargs)
        if lease := _lease(panel):
            lease.cancel([task_id] if isinstance(task_id, str) else list(task_id or ()))
        return reply
    return revoke


def _scheduled(command: Any) -> Any:
    @wraps(command)
    def scheduled(panel: Any, **kwargs: Any) -> Any:
        found = command(panel, **kwargs)
        if lease := _lease(panel):
            found += islice(_delayed(panel, lease), MOST_SCHEDULED)
        return found
    return scheduled


def _delayed(panel: Any, lease: Any) -> Iterator[dict[str, Any]]:
    """Those of the queues that this worker sweeps: no other worker tells of them."""
    channel = panel.consumer.task_consumer.channel
    for queue in channel.member.swept(lease.queues):
        for task in channel.store.delayed(queue, count=MOST_SCHEDULED):
            try:
                raw = decode(Delivery(queue, '', task.fields))
                message = channel.Message(raw, channel=channel, accept=panel.consumer.task_consumer.accept)
                (args, kwargs, _), headers, info = message.payload, message.headers, message.delivery_info
            except Exception:       # what it cannot read, it refuses when that is due
                continue
            yield {'eta': task.fields.get(b'eta', b'').decode(), 'priority': 6, 'request': {
                'id': headers.get('id'), 'name': headers.get('task'), 'args': args, 'kwargs': kwargs,
                'type': headers.get('task'), 'hostname': panel.hostname, 'time_start': None, 'acknowledged': False,
                'delivery_info': {**{name: info.get(name) for name in ('exchange', 'routing_key')},
                                  'priority': message.properties.get('priority'), 'redelivered': False},
                'worker_pid': None}}
