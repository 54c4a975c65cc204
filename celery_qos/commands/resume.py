"""``qos resume``: what `qos pause` held back goes on."""
from __future__ import annotations

from typing import Optional

import click

from .pausing import set_paused
from .session import Session, session_command
from .tenant import Key, optional_tenant_argument

__all__ = ('command',)


@session_command(name='resume', known_queue=True, short_help='Have them go on.')
@optional_tenant_argument
@click.option('--sub-queue', metavar='NAME', help='Resume this sub-queue instead of a tenant.')
def command(session: Session, tenant: Optional[Key], sub_queue: Optional[str]) -> None:
    """Have the tasks of TENANT go on; also where its config says that it is paused.

    \b
    Example:
        celery -A proj qos resume acme
        celery -A proj qos resume --sub-queue bronze
    """
    set_paused(session, tenant, sub_queue, False)
