"""What a worker does beside running tasks: it keeps its leases, settles, and sweeps."""
from __future__ import annotations

from typing import Any

from celery import signals
from celery._state import _get_active_apps

__all__ = ('install',)

#: The bootstep by name, so that programs which only publish do not import Celery's worker.
STEP = 'celery_qos.worker.step:Slots'


def install() -> None:
    """Have every worker of this process, on whatever app, get the bootstep."""
    signals.worker_init.connect(_add_step, dispatch_uid='celery_qos.worker', weak=False)
    # Green pools look at the transport only after the signal, but before they read the steps.
    for app in _get_active_apps():
        app.steps['consumer'].add(STEP)


def _add_step(sender: Any, **kwargs: Any) -> None:
    sender.app.steps['consumer'].add(STEP)
