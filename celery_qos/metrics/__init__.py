"""Metrics for Prometheus: a collector for any registry, and a server of its own.

``celery -A proj qos exporter`` is the same as a program.
"""
from __future__ import annotations

try:
    import prometheus_client as _  # noqa: F401
except ImportError as exc:
    raise ImportError("metrics need prometheus-client: pip install 'celery-qos[exporter]'") from exc

from .collector import Collector
from .families import METRICS
from .server import serve

__all__ = ('Collector', 'METRICS', 'serve')
