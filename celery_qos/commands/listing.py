"""Lists that may be long: some of it, or all."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import click

from ..paged import Paged
from .session import NOT_FOUND, Session
from .table import Column

__all__ = ('limit_options', 'listed')


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--limit`` and ``--all``."""
    limit = click.option('--limit', type=click.IntRange(1), default=50, show_default=True, help='List so many.')
    return limit(click.option('--all', 'everything', is_flag=True, help='List all.')(function))


def listed(session: Session, items: Paged, is_meant: Callable[[Any], bool], limit: Optional[int],
           columns: Sequence[Column], as_row: Callable[[Any], Sequence[str]], as_data: Callable[[Any], Any]) -> int:
    """List those of `items` that are meant, as they are read; returns the exit code."""
    more = False

    def meant() -> Iterator[Any]:
        nonlocal more
        count = 0
        for item in items:
            if is_meant(item):
                if count == limit:
                    more = True
                    return
                count += 1
                yield item

    count = session.emit_rows(meant(), columns, as_row, as_data)
    if more:
        click.echo(f'there are more, {len(items):,} in the queue: --all lists all, --limit N so many', err=True)
    elif not count:
        click.echo('none', err=True)
    return 0 if count else NOT_FOUND
