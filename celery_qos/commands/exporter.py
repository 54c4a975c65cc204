"""``qos exporter``: the queues as metrics for Prometheus."""
from __future__ import annotations

import logging
import signal
from threading import Event
from typing import Any

import click

from .session import Session, session_command

__all__ = ('command',)


@session_command(name='exporter', json_help='Say as JSON where it listens, for programs.',
                 queue_help='Only these Celery queues, such as one,two; by default all queues of the app.')
@click.option('--host', default='127.0.0.1', show_default=True, help='The address to listen on; 0.0.0.0 for all.')
@click.option('--port', type=click.IntRange(0, 65535), default=9817, show_default=True, help='0 for any that is free.')
@click.option('--top', type=click.IntRange(0, 1000), default=20, show_default=True,
              help='Tenants of each queue with metrics of their own: those with most tasks waiting.')
@click.option('--tenants-every', metavar='SECONDS', type=click.FloatRange(1, 3600), default=30, show_default=True,
              help='How often the tenants are looked at.')
def command(session: Session, **options: Any) -> None:
    """Serve metrics for Prometheus, until it is told to stop.

    Of several queues: -Q name,name. It reads from Redis when it is asked, and writes nothing.

    \b
    Example:
        celery -A proj qos exporter --port 9817 --top 50
    """
    try:
        from ..metrics import serve
    except ImportError as exc:
        session.fail(str(exc))
    logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s', level=logging.INFO)
    queues = session.queue.split(',') if session.queue else ()
    host, port = options.pop('host'), options.pop('port')
    try:
        server, _ = serve(session.app, port, host, queues=queues, **options)
    except OSError as exc:
        session.fail(f'--port: cannot listen on {host}:{port} ({exc.strerror}); choose another')
    url = f'http://{host}:{server.server_port}/metrics'
    session.emit({'url': url}, lambda: click.echo(f'metrics on {url}'))
    # The first process of a container is not ended by a signal that it does not handle.
    stop = Event()
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.shutdown()
