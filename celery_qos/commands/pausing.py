"""What `qos pause` and `qos resume` have in common."""
from __future__ import annotations

from typing import Any, Optional

import click

from .session import Session
from .tenant import Key
from .text import clean, tasks_text, tenant_text

__all__ = ('set_paused',)


def set_paused(session: Session, tenant: Optional[Key], sub_queue: Optional[str], paused: bool) -> None:
    control, queue = session.control, session.queue
    if (tenant is None) == (sub_queue is None):
        raise click.UsageError('name a TENANT, or a sub-queue by --sub-queue')
    of: dict[str, Any]
    if sub_queue is not None:
        control.set_sub_queue(sub_queue, queue, paused=paused)
        waiting, name, of = control.waiting_in(sub_queue, queue), f'sub-queue {clean(sub_queue)}', {
            'sub_queue': sub_queue}
    else:
        if paused and not control.is_known(tenant, queue):
            click.echo(f'tenant {tenant_text(tenant or "")} was not seen on queue {clean(session.queue_name)}: '
                       'is that its key?', err=True)
        control.set_tenant(tenant, queue, paused=paused)
        waiting, name, of = control.waiting(tenant, queue), f'tenant {tenant_text(tenant or "")}', {'tenant': tenant}
    wait = 'waits' if waiting == 1 else 'wait'
    session.emit(
        {'queue': session.queue_name, **of, 'paused': paused, 'waiting': waiting},
        lambda: session.say(f'{name} is paused: {tasks_text(waiting)} {wait} until it is resumed' if paused else
                            f'{name} is not paused: {tasks_text(waiting)} {wait} for a turn'))
