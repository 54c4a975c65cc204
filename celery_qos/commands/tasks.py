"""What the commands about delayed tasks and dead letters have in common: which of them are meant."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Optional, TypeVar

import click

from ..path import SEPARATOR, key_of, parse_path
from .session import Session
from .tenant import Key, tenant_option

__all__ = ('Choice', 'choice_options', 'is_of', 'cancel_delayed', 'batches')

#: Ids that one step is about.
BATCH = 100

T = TypeVar('T')


class Choice:
    """Which tasks are meant.

    Arguments:
        tenant: theirs, or one that they are inside; None for any.
        task: a glob that their name matches.
        reason: a glob that a dead letter's reason matches.
    """

    def __init__(self, tenant: Optional[Key] = None, task: str = '', reason: str = '') -> None:
        self.path = None if tenant is None else parse_path(tenant)
        self.task, self.reason = task, reason

    def __bool__(self) -> bool:
        """Whether not all are meant."""
        return self.path is not None or bool(self.task or self.reason)

    def __call__(self, task: Any) -> bool:
        return ((self.path is None or is_of(task.tenant, key_of(self.path)))
                and (not self.task or fnmatchcase(task.name, self.task))
                and (not self.reason or fnmatchcase(task.reason, self.reason)))


def choice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tenant``, ``--inside`` and ``--task``."""
    return tenant_option(click.option('--task', metavar='GLOB', default='', help='Only tasks of such a name.')(
        function))


def is_of(tenant: Key, outer: Key) -> bool:
    """Whether `tenant` is `outer`, or inside it."""
    return (_path(tenant) + SEPARATOR).startswith(_path(outer) + SEPARATOR)


def _path(tenant: Key) -> str:
    return tenant if isinstance(tenant, str) else SEPARATOR.join(tenant)


def cancel_delayed(session: Session, is_meant: Callable[[Any], bool]) -> int:
    """Cancel the delayed tasks that are meant; returns how many."""
    tasks = session.control.delayed(session.queue)
    cancelled = 0
    with session.progress('delayed tasks looked at', len(tasks)) as progress:
        for batch in batches(tasks):
            ids = [task.task_id for task in batch if is_meant(task)]
            cancelled += len(tasks.cancel(*ids)) if ids else 0
            progress.advance(len(batch))
    return cancelled


def batches(items: Any, most: Optional[int] = None) -> Iterator[list[Any]]:
    """Lists of `BATCH` of the items, of the first `most`: those that come meanwhile need not be gone through."""
    batch: list[Any] = []
    for number, item in enumerate(items, 1):
        batch.append(item)
        if len(batch) == BATCH or number == most:
            yield batch
            batch = []
        if number == most:
            return
    if batch:
        yield batch
