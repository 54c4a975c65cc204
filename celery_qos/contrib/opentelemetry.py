"""OpenTelemetry: the span of a task that runs says whose task it is and how long it waited."""
from __future__ import annotations

from typing import Any

from celery import signals
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor

from .. import request
from .about import attributes_of

__all__ = ('instrument',)


def instrument(**kwargs: Any) -> None:
    """``CeleryInstrumentor().instrument(**kwargs)``, unless that was called before, with attributes for each span."""
    instrumentor = CeleryInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(**kwargs)
    # Receivers are called in the order in which they were connected: the task knows, its span begins, and is told.
    request.install()
    signals.task_prerun.connect(_tell, dispatch_uid='celery_qos.contrib.opentelemetry', weak=False)


def _tell(task: Any, **kwargs: Any) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(attributes_of(task.request))
