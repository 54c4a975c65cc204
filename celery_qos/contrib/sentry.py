"""Sentry: events and transactions of a task say whose task it is and how long it waited."""
from __future__ import annotations

from typing import Any

import sentry_sdk
from celery import signals

from .. import request
from .about import attributes_of

__all__ = ('instrument',)


def instrument() -> None:
    """Beside ``sentry_sdk.init()``, before or after."""
    request.install()
    signals.task_prerun.connect(_tell, dispatch_uid='celery_qos.contrib.sentry', weak=False)


def _tell(task: Any, **kwargs: Any) -> None:
    # Sentry's integration opened a scope for this task before it called the one that sends the signal.
    about = attributes_of(task.request)
    span = sentry_sdk.get_current_span()
    for name, value in about.items():
        if value != '':
            sentry_sdk.set_tag(name, value if isinstance(value, (str, int)) else f'{value:.3f}')
        if span is not None:
            span.set_data(name, value)
