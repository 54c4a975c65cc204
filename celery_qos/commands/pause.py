"""``qos pause``: a tenant's, or a sub-queue's, tasks wait until it is resumed."""
from __future__ import annotations

from typing import Optional

import click

from .pausing import set_paused
from .session import Session, session_command
from .tenant import Key, optional_tenant_argument

__all__ = ('command',)


@session_command(name='pause', known_queue=True, short_help="Have a tenant's tasks wait.")
@optional_tenant_argument
@click.option('--sub-queue', metavar='NAME', help='Pause this sub-queue instead of a tenant.')
def command(session: Session, tenant: Optional[Key], sub_queue: Optional[str]) -> None:
    """Have the tasks of TENANT wait, and nobody else's. Those that a worker has, run to their end.

    What is published meanwhile waits too. `resume` undoes it.

    \b
    Example:
        celery -A proj qos pause acme
        celery -A proj qos pause --sub-queue bronze
    """
    set_paused(session, tenant, sub_queue, True)
