"""Tables: with colours on a terminal that rich can draw on, else aligned text; only `fitted` makes a cell shorter."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any, NamedTuple

import click

__all__ = ('Column', 'lines', 'fitted', 'shortened', 'rich_table', 'show', 'has_rich')

#: Rows whose width is looked at together: there may be a million.
_ROWS = 500
_BETWEEN = 2
#: A name is not made shorter than this while there is a column to leave out.
_SHORTEST = 16


class Column(NamedTuple):
    title: str
    #: Figures stand to the right.
    right: bool = False
    #: At least so wide.
    width: int = 0


def has_rich() -> bool:
    return find_spec('rich') is not None


def show(columns: Sequence[Column], rows: Iterable[Sequence[str]], colour: bool = True) -> None:
    """Write the table to standard output, as the rows come in."""
    if not (sys.stdout.isatty() and has_rich()):
        for line in lines(columns, rows):
            click.echo(line)
        return
    from rich.console import Console
    for number, (chunk, fitted) in enumerate(_chunks(columns, rows)):
        width = sum(each.width + _BETWEEN for each in fitted)
        console = Console(highlight=False, no_color=not colour or None)
        # What is wider than the terminal is the terminal's to wrap: then ids can be copied.
        console.print(rich_table(fitted, chunk, header=not number), width=max(width, console.width), soft_wrap=True)


def lines(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The table as plain text; the header first."""
    for number, (chunk, fitted) in enumerate(_chunks(columns, rows)):
        if not number:
            yield _line(fitted, [each.title for each in fitted])
        for row in chunk:
            yield _line(fitted, row)


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int,
           spare: Sequence[str]) -> tuple[list[Column], list[tuple[str, ...]]]:
    """The table in lines of this width: without the `spare` columns that find no room, then with shorter names.

    Arguments:
        spare: titles, that of the column which is missed least first; the first column is never left out.
    """
    needed = [max([each.width, len(each.title), *(len(row[place]) for row in rows)])
              for place, each in enumerate(columns)]
    kept = list(range(len(columns)))

    def left() -> int:
        return width - sum(needed[place] + _BETWEEN for place in kept[1:])

    for title in spare:
        if left() >= min(needed[0], _SHORTEST):
            break
        kept = [place for place in kept if columns[place].title != title]
    name = columns[0]._replace(width=min(columns[0].width, max(left(), 1)))
    return ([name, *(columns[place] for place in kept[1:])],
            [(shortened(row[0], max(left(), 1)), *(row[place] for place in kept[1:])) for row in rows])


def shortened(text: str, width: int) -> str:
    """Without its middle, where it is longer than that."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f'{text[:width - 1 - end]}\u2026{text[len(text) - end:]}'


def rich_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], header: bool = True) -> Any:
    """The same for rich."""
    from rich.table import Table
    from rich.text import Text
    table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style='dim', show_header=header)
    for number, each in enumerate(columns):
        table.add_column(each.title, justify='right' if each.right else 'left', min_width=each.width, no_wrap=True,
                         style='bold' if not number else None)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _chunks(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[tuple[list, list[Column]]]:
    """Some rows at a time, and the columns as wide as they have to be so far."""
    rest, fitted = iter(rows), [each._replace(width=max(each.width, len(each.title))) for each in columns]
    while chunk := list(islice(rest, _ROWS)):
        fitted = [each._replace(width=max(each.width, *(len(row[place]) for row in chunk)))
                  for place, each in enumerate(fitted)]
        yield chunk, fitted


def _line(columns: Sequence[Column], row: Sequence[str]) -> str:
    cells = (cell.rjust(each.width) if each.right else cell.ljust(each.width) for each, cell in zip(columns, row))
    return (' ' * _BETWEEN).join(cells).rstrip()
