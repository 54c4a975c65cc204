"""``qos top``: the queue and its tenants, live."""
from __future__ import annotations

import os
import select
import sys
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import click
from kombu.exceptions import KombuError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..notices import reason
from ..observe import SORTS, QueueStatus, TenantStatus
from .listing import top_option
from .session import Session, session_command
from .sorting import sort_option, sort_text
from .table import fitted, has_rich, lines
from .view import TENANT_COLUMNS, status_data, status_lines, tenant_data, tenant_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ('command',)

#: Columns that a narrow terminal goes without, the first one first.
_SPARE = ('p99', 'p50', 'sub-queue', 'p95', 'entitled', 'weight', 'share', 'rate', 'oldest')
#: What says that Redis is away, and may come back.
_AWAY = (RedisConnectionError, RedisTimeoutError, KombuError, OSError)


class Picture(NamedTuple):
    status: QueueStatus
    tenants: list[TenantStatus]

    @property
    def queue_lines(self) -> list[str]:
        return list(status_lines(self.status))

    def tenant_lines(self, width: Optional[int] = None) -> list[str]:
        """The header first; sub-queues only where there are some, and no line is longer than `width`."""
        rows, places = [tenant_row(each) for each in self.tenants], range(len(TENANT_COLUMNS))
        kept = [place for place in places if TENANT_COLUMNS[place].title != 'sub-queue' or self.status.sub_queues]
        columns = [TENANT_COLUMNS[place] for place in kept]
        cells = [tuple(row[place] for place in kept) for row in rows]
        if width is not None:
            columns, cells = fitted(columns, cells, width, _SPARE)
        return list(lines(columns, cells))


@session_command(name='top', known_queue=True, short_help='The same, live.', json_help='Print a JSON document a line.')
@sort_option
@top_option(20, 'Show so many tenants.')
@click.option('--interval', type=click.FloatRange(0.1), default=2.0, show_default=True,
              help='Seconds between two pictures.')
@click.option('--count', type=click.IntRange(1), help='End after so many pictures. Where the output is no terminal: 1.')
def command(session: Session, sort: str, top: int, interval: float, count: Optional[int]) -> None:
    """`status` and `tenants`, drawn anew every few seconds. `q` or Ctrl-C ends it; `s` sorts by the next column.

    When Redis goes away, it says so and goes on when it is back. Where the output is no terminal, it prints plain
    pictures, one after the other.

    \b
    Example:
        celery -A proj qos top --interval 1 --sort oldest
    """
    def look(sort: str) -> Picture:
        return Picture(session.control.status(session.queue), session.control.tenants(session.queue, sort, top))

    first = look(sort)
    try:
        if not session.as_json and sys.stdout.isatty():
            if not has_rich():
                session.fail('the live picture needs rich: run  pip install "celery-qos[cli]"  or send the output to '
                             'a pipe:  qos top --count 10 | cat')
            _draw(look, first, sort, interval, count, session.colour)
        else:
            _print(session, look, first, sort, interval, count or 1)
    except KeyboardInterrupt:
        pass        # that is how one leaves


def _print(session: Session, look: Callable[[str], Picture], picture: Picture, sort: str, interval: float,
           count: int) -> None:
    for number in range(count):
        if number:
            sleep(interval)
            try:
                picture = look(sort)
            except _AWAY as exc:
                click.echo(f'Redis does not answer: {reason(exc)}', err=True)
                continue
        shown = picture
        session.emit({'status': status_data(shown.status), 'tenants': [tenant_data(each) for each in shown.tenants]},
                     lambda: click.echo('\n'.join([f'{datetime.now():%H:%M:%S}', *shown.queue_lines, '',
                                                   *(shown.tenant_lines() or ['none']), ''])), lines=True)


def _draw(look: Callable[[str], Picture], picture: Picture, sort: str, interval: float, count: Optional[int],
          colour: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    away, sorts = '', SORTS.index(sort)
    with _typed() as typed, Live(console=Console(highlight=False, no_color=not colour or None), screen=True,
                                 auto_refresh=False) as live:
        number = 1
        while True:
            live.update(_drawn(picture, SORTS[sorts], away, live.console.width), refresh=True)
            if number == count:
                return
            key = typed(interval)
            if key in ('q', 'Q'):
                return
            sorts = (sorts + (key in ('s', 'S'))) % len(SORTS)
            number += not key
            try:
                picture, away = look(SORTS[sorts]), ''
            except _AWAY as exc:
                away = f'{datetime.now():%H:%M:%S} Redis does not answer, trying again: {reason(exc)}'


def _drawn(picture: Picture, sort: str, away: str, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    queue, *rest = picture.queue_lines
    header, *tenants = picture.tenant_lines(width) or ['none']
    found = [Text(f'{queue}   {datetime.now():%H:%M:%S}, by {sort_text(sort)}; q ends, s sorts', style='bold'),
             *([Text(away, style='bold red')] if away else []), *map(Text, rest), Text(''),
             Text(header, style='dim'), *map(Text, tenants)]
    for each in found:
        each.no_wrap, each.overflow = True, 'crop'
    return Group(*found)


@contextmanager
def _typed() -> Iterator[Callable[[float], str]]:
    """Gives a function that waits so many seconds for a key, and returns it, or ''."""
    def wait(seconds: float) -> str:
        if not is_terminal:
            sleep(seconds)
            return ''
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0]:
                return os.read(sys.stdin.fileno(), 1).decode(errors='replace')
        return ''

    is_terminal = sys.stdin.isatty()
    if not is_terminal:
        yield wait
        return
    import termios
    import tty
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
