"""What spans and events say of a task's delivery, under the same names everywhere."""
from __future__ import annotations

from typing import Any, Union

__all__ = ('attributes_of',)


def attributes_of(request: Any) -> dict[str, Union[str, int, float]]:
    """Of the request of a running task; the keys of a tuple are joined by a slash. Empty where it knows nothing."""
    if request.get('queue_wait') is None:
        return {}
    tenant = request.tenant
    return {
        'celery_qos.tenant': tenant if isinstance(tenant, str) else '/'.join(tenant),
        'celery_qos.sub_queue': request.sub_queue,
        'celery_qos.queue_wait': request.queue_wait,
        'celery_qos.deliveries': request.deliveries,
    }
