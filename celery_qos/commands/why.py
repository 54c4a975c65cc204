"""``qos why``: why a task, or a tenant, waits."""
from __future__ import annotations

from typing import Optional

import click

from .session import NOT_FOUND, Session, session_command
from .tenant import Key, tenant_words
from .text import clean

__all__ = ('command',)


@session_command(name='why', known_queue=True, short_help='Why a task, or a tenant, waits.')
@tenant_words('subject', 'TASK_ID|TENANT')
@click.option('--tenant', 'kind', flag_value='tenant', help='It is a tenant, even if a task has this id.')
@click.option('--task', 'kind', flag_value='task', help='It is a task, even if a tenant has this key.')
def command(session: Session, subject: Key, kind: Optional[str]) -> Optional[int]:
    """Say in one sentence why a task, or a tenant, waits, or what became of it.

    What is no known tenant is taken for a task's id. To find a task, all that wait may have to be looked at, some at
    a time. Exit code 1: nobody knows it.

    \b
    Example:
        celery -A proj qos why acme
        celery -A proj qos why 8f14e45f-ceea-467f-a8d2-4e1f3c9b7a10
    """
    if isinstance(subject, tuple) and kind == 'task':
        raise click.UsageError('a task is inside nothing: give --task or --inside')
    if subject == '' and kind is None:
        kind = 'tenant'     # no task has an empty id
    with session.progress('tasks looked at') as progress:
        why = session.control.why(subject, session.queue, kind, progress.at)
    session.emit({'queue': session.queue_name, 'state': why.state, 'sentence': why.sentence, **why.facts},
                 lambda: session.say(clean(why.sentence)))
    return NOT_FOUND if why.state == 'unknown' else None
