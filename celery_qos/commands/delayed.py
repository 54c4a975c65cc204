"""``qos delayed``: the tasks that wait for their time."""
from __future__ import annotations

from typing import Any, Optional

import click
from click_didyoumean import DYMGroup

from .listing import limit_options, listed
from .session import NOT_FOUND, Session, session_command
from .table import Column
from .tasks import Choice, cancel_delayed, choice_options
from .tenant import Key
from .text import clean, tasks_text, tenant_text, time_text

__all__ = ('command',)

_COLUMNS = (Column('task id', width=36), Column('due', width=20), Column('tenant'), Column('task'),
            Column('retries', right=True))


@click.group(name='delayed', cls=DYMGroup, short_help='Tasks that wait for their time.')
def command() -> None:
    """See and cancel tasks with an eta or a countdown, and retries that are due later.

    \b
    Example:
        celery -A proj qos delayed list --tenant acme
    """


@session_command(name='list', known_queue=True)
@choice_options
@limit_options
def list_(session: Session, tenant: Optional[Key], task: str, top: int, everything: bool) -> Optional[int]:
    """The delayed tasks, the earliest first. Exit code 1: there are none.

    \b
    Example:
        celery -A proj qos delayed list --task 'shop.mail.*' --top 10
    """
    tasks = session.control.delayed(session.queue)
    return listed(session, tasks, Choice(tenant, task), None if everything else top, _COLUMNS, _row, _data)


@session_command(name='cancel', known_queue=True)
@click.argument('task_ids', metavar='[TASK_ID]...', nargs=-1)
@choice_options
@click.option('--all', 'everything', is_flag=True, help='All delayed tasks of the queue.')
@click.option('-y', '--yes', is_flag=True, help='Do not ask where --tenant, --task or --all says which.')
def cancel(session: Session, task_ids: tuple[str, ...], tenant: Optional[Key], task: str, everything: bool,
           yes: bool) -> Optional[int]:
    """Have these delayed tasks not run. Their state becomes REVOKED. Exit code 1: some id, or all, were not there.

    \b
    Example:
        celery -A proj qos delayed cancel 8f14e45f-ceea-467f-a8d2-4e1f3c9b7a10
        celery -A proj qos delayed cancel --tenant acme --task 'shop.mail.*'
    """
    choice = Choice(tenant, task)
    if bool(task_ids) + bool(choice) + everything != 1:
        raise click.UsageError('name the tasks by TASK_IDs, or by --tenant and --task, or give --all')
    if task_ids:
        found = session.control.delayed(session.queue).cancel(*task_ids)
        missing = [each for each in task_ids if each not in found]
        session.emit({'queue': session.queue_name, 'cancelled': found, 'not_found': missing}, lambda: session.say(
            f'{tasks_text(len(found))} cancelled' + (f'; not delayed: {", ".join(map(clean, missing))}'
                                                     if missing else '')))
        return NOT_FOUND if missing else None
    which = 'all delayed tasks' if everything else 'the delayed tasks that match'
    session.confirm(f'Cancel {which} of queue {clean(session.queue_name)}?', yes)
    count = cancel_delayed(session, choice)
    session.emit({'queue': session.queue_name, 'cancelled': count},
                 lambda: session.say(f'{tasks_text(count)} cancelled'))
    return None if count else NOT_FOUND


command.add_command(list_)
command.add_command(cancel)


def _row(task: Any) -> tuple[str, ...]:
    return clean(task.task_id), time_text(task.due), tenant_text(task.tenant), clean(task.name), str(task.retries)


def _data(task: Any) -> dict[str, Any]:
    return task._asdict()
