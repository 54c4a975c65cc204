"""Serves the metrics by HTTP, from a process of its own or from a worker."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server

from .collector import Collector

if TYPE_CHECKING:
    from celery import Celery

__all__ = ('serve', 'PORT', 'HOST')

#: Not 9808, which celery-exporter has: the two may run side by side.
PORT = 9817
#: Who is elsewhere sees nothing unless told: names of tenants may be names of customers.
HOST = '127.0.0.1'


def serve(app: Celery, port: int = PORT, host: str = HOST, **options: Any) -> tuple[Any, Any]:
    """Serve ``http://host:port/metrics`` from a thread.

    Arguments:
        options: those of a `Collector`.

    Returns:
        The server, whose `shutdown` ends it, and its thread.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(Collector(app, **options))
    return start_http_server(port, host, registry)
