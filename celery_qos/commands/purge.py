"""``qos purge``: delete what waits, of one tenant or of the whole queue."""
from __future__ import annotations

from typing import Optional

import click

from .session import NOT_FOUND, Session, session_command
from .tasks import cancel_delayed, is_of
from .tenant import Key, optional_tenant_argument
from .text import clean, tasks_text, tenant_text

__all__ = ('command',)


@session_command(name='purge', known_queue=True, short_help='Delete what waits.')
@optional_tenant_argument
@click.option('--all', 'everything', is_flag=True,
              help='Delete what waits of all tenants, delayed tasks included, instead of one.')
@click.option('--delayed', is_flag=True, help="Cancel the tenant's delayed tasks too; their state becomes REVOKED.")
@click.option('-y', '--yes', is_flag=True, help='Do not ask.')
def command(session: Session, tenant: Optional[Key], everything: bool, delayed: bool, yes: bool) -> Optional[int]:
    """Delete the waiting tasks of TENANT, and of those inside it. It says how many there are, and asks.

    Tasks that a worker has, or is about to get, are left alone, and so are the tenant's options. Exit code 1: there
    was nothing to delete, or you said no.

    \b
    Example:
        celery -A proj qos purge acme
        celery -A proj qos purge --all --yes --queue reports
    """
    if everything == (tenant is not None):
        raise click.UsageError('name a TENANT, or give --all')
    count = _purge_all(session, yes) if everything else _purge(session, tenant or '', delayed, yes)
    return None if count else NOT_FOUND


def _purge_all(session: Session, yes: bool) -> int:
    count, name = session.control.size(session.queue) or 0, clean(session.queue_name)
    if count:
        session.confirm(f'Delete all {tasks_text(count)} that wait in queue {name}, delayed ones included?', yes)
        with session.progress('deleted', count) as progress:
            count = session.control.purge_all(session.queue, progress.advance)
    session.emit({'queue': session.queue_name, 'deleted': count},
                 lambda: session.say(f'queue {name}: {tasks_text(count)} deleted'))
    return count


def _purge(session: Session, tenant: Key, delayed: bool, yes: bool) -> int:
    control, name = session.control, f'tenant {tenant_text(tenant)}'
    count, cancelled, later = control.waiting(tenant, session.queue), 0, 0
    if delayed:
        tasks = control.delayed(session.queue)
        with session.progress('delayed tasks looked at', len(tasks)) as progress:
            for task in tasks:
                later += is_of(task.tenant, tenant)
                progress.advance()
    if count or later:
        also = f', and cancel {tasks_text(later)} of it that are delayed' if delayed else ''
        session.confirm(f'Delete {tasks_text(count)} of {name}{also}?', yes)
        with session.progress('deleted', count) as progress:
            count = control.purge(tenant, session.queue, progress.advance)
        if later:
            cancelled = cancel_delayed(session, lambda task: is_of(task.tenant, tenant))
    data = {'queue': session.queue_name, 'tenant': tenant, 'deleted': count}
    session.emit({**data, 'cancelled': cancelled} if delayed else data, lambda: session.say(
        f'{name}: {tasks_text(count)} deleted' + (f', {tasks_text(cancelled)} cancelled' if delayed else '')))
    return count + cancelled
