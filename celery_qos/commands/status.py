"""``qos status``: the queues at a glance."""
from __future__ import annotations

import click

from .session import ALL_QUEUES, Session, session_command
from .view import status_data, status_lines

__all__ = ('command',)


@session_command(name='status', known_queue=True, queue_help=ALL_QUEUES, short_help='The queues at a glance.')
def command(session: Session) -> None:
    """The queues of the app, or the one of --queue: algorithm, slots, what waits, how long, workers with a lease.

    \b
    Example:
        celery -A proj qos status
        celery -A proj qos status --queue reports --json
    """
    queues = [session.queue] if session.queue else session.control.queues
    statuses = [session.control.status(queue) for queue in queues]

    def show() -> None:
        for number, status in enumerate(statuses):
            click.echo(('\n' if number else '') + '\n'.join(status_lines(status)))

    session.emit([status_data(each) for each in statuses], show)
