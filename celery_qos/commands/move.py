"""``qos move``: a tenant's waiting tasks to another tenant, sub-queue or queue."""
from __future__ import annotations

from typing import Any, Optional

import click

from ..moves import Moved
from .session import NOT_FOUND, Session, session_command
from .tenant import Key, tenant_argument
from .text import clean, tasks_text

__all__ = ('command',)


@session_command(name='move', known_queue=True, short_help='Move what waits to another tenant, sub-queue or queue.')
@tenant_argument
@click.option('--sub-queue', metavar='NAME', help='Only what waits in this sub-queue.')
@click.option('--to-tenant', metavar='KEY', multiple=True,
              help="The tenant that they go to; for a tuple key, given for each part: ('acme', 'alice') is:  "
                   '--to-tenant acme --to-tenant alice')
@click.option('--to-sub-queue', metavar='NAME', help='The sub-queue that they go to.')
@click.option('--to-queue', metavar='NAME', help='The Celery queue that they go to.')
@click.option('--count', type=click.IntRange(1), help='How many at most, the first ones; by default all that wait now.')
@click.option('--task', 'task_ids', metavar='ID', multiple=True, help='Only this task; can be given several times.')
@click.option('--force', is_flag=True, help='Beyond the capacity of where they go too.')
@click.option('--dry-run', is_flag=True, help='Only say how many would go.')
def command(session: Session, tenant: Key, sub_queue: Optional[str], to_tenant: tuple[str, ...],
            to_sub_queue: Optional[str], to_queue: Optional[str], count: Optional[int], task_ids: tuple[str, ...],
            force: bool, dry_run: bool) -> int:
    """Move waiting tasks of TENANT, not of those inside it, to the end of another tenant, sub-queue or queue.

    They keep their order and priority; their retries and children follow them. A task is in one place at each moment:
    what was interrupted goes on with the same command again. Delayed tasks stay. Exit code 1: none went, or not all
    that were meant.

    \b
    Example:
        celery -A proj qos move acme --to-tenant acme-backfill --count 1000
        celery -A proj qos move acme --to-queue slow --dry-run
    """
    if not to_tenant and to_sub_queue is None and to_queue is None:
        raise click.UsageError('say where to: --to-tenant, --to-sub-queue or --to-queue')
    with session.progress('looked at' if dry_run else 'moved') as progress:
        moved = session.control.move(tenant, _key(to_tenant), to_sub_queue, to_queue, session.queue, sub_queue, count,
                                     task_ids, force, dry_run, progress.at)
    session.emit({'moved': moved.count, 'missing': list(moved.missing), 'full': moved.full, 'dry_run': dry_run},
                 lambda: _show(session, moved, dry_run))
    return NOT_FOUND if moved.full or moved.missing or not moved.count else 0


def _key(words: tuple[str, ...]) -> Any:
    if not words:
        return None
    return words[0] if len(words) == 1 else words


def _show(session: Session, moved: Moved, dry_run: bool) -> None:
    session.say(f'{tasks_text(moved.count)} {"would be moved" if dry_run else "moved"}')
    if moved.full:
        session.say('where they go, as many wait as may: raise its capacity, or give --force')
    for task_id in moved.missing:
        session.say(f'task {clean(task_id)} is not among those that wait of this tenant; ask: celery -A proj qos why')
