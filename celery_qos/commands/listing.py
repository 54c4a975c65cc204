"""Lists that may be long: some of it, or all."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import click

from ..paged import Paged
from .session import NOT_FOUND, Session
from .table import Column

__all__ = ('top_option', 'limit_options', 'listed', 'say_more')


class _Top(click.Option):
    """``--top``, of which help does not say that ``--limit`` is the same."""

    def get_help_record(self, ctx: click.Context) -> Optional[tuple[str, str]]:
        names, text = super().get_help_record(ctx) or ('', '')
        return names.replace(', --limit', ''), text


def top_option(default: int, help: str = 'List so many.') -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How many rows: the parameter `top`."""
    return click.option('--top', '--limit', 'top', cls=_Top, metavar='N', type=click.IntRange(1), default=default,
                        show_default=True, help=help)


def say_more(of: Optional[int] = None) -> None:
    """The list is longer than what was listed of it."""
    how_many = '' if of is None else f', {of:,} in the queue'
    click.echo(f'there are more{how_many}: --all lists all, --top N so many', err=True)


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--top`` and ``--all``."""
    return top_option(50)(click.option('--all', 'everything', is_flag=True, help='List all.')(function))


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
        say_more(len(items))
    elif not count:
        click.echo('none', err=True)
    return 0 if count else NOT_FOUND
