"""Shows the demo while it runs: a live table, or a line every two seconds."""
from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Optional, Protocol

from .errors import DemoError
from .side import TenantState
from .table import HEADER, View, as_text, rows
from .waits import Wait

__all__ = ('Display', 'LiveTable', 'Lines')

#: Seconds between two lines.
_LINE_EVERY = 2.0


class Display(Protocol):
    """What the demo tells about itself; a context manager."""

    def say(self, text: str) -> None:
        """The demo now does `text`."""

    def show(self, elapsed: float, seconds: float, view: View) -> None:
        """The load has run for `elapsed` of `seconds`; beyond them, what is left is worked off."""

    def end(self, view: View) -> None:
        """The load has come to its end."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc_info: Any) -> None: ...


class Lines:
    """For logs: no terminal control."""

    def __init__(self) -> None:
        self._due = 0.0     # the next line, in seconds from the start

    def say(self, text: str) -> None:
        print(text, flush=True)

    def show(self, elapsed: float, seconds: float, view: View) -> None:
        if elapsed < self._due:
            return
        if not self._due:
            self.say('the median wait of the quiet and the busy tenant, and how many tasks wait:')
        self._due += _LINE_EVERY
        self.say(' | '.join([f'{elapsed:3.0f} s', *(_in_short(name, states) for name, states in view.items())]))

    def end(self, view: View) -> None:
        self.say(f'\n{as_text(view)}')

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        pass


def _in_short(name: str, states: Sequence[TenantState]) -> str:
    """Such as ``celery-qos: quiet 26 ms, busy over 866 ms, 70 wait``: the first tenant is the quiet one."""
    medians = ', '.join(f'{nickname} {_in_words(state.waits.median)}'
                        for nickname, state in zip(('quiet', 'busy'), states, strict=True))
    return f'{name}: {medians}, {sum(state.waiting for state in states)} wait'


def _in_words(wait: Optional[Wait]) -> str:
    return '-' if wait is None else str(wait).replace('>', 'over ')


class LiveTable:
    """For a terminal: a table that is drawn anew in its place.

    Raises:
        DemoError: rich is not installed.
    """

    def __init__(self) -> None:
        if find_spec('rich') is None:
            raise DemoError('the live table needs rich: run  pip install "celery-qos[demo]"  or give --plain')
        from rich.console import Console
        from rich.live import Live
        self._live = Live(console=Console(highlight=False), auto_refresh=False)

    def say(self, text: str) -> None:
        from rich.text import Text
        self._live.update(Text(text, style='dim'), refresh=True)

    def show(self, elapsed: float, seconds: float, view: View) -> None:
        from rich.console import Group
        self._live.update(Group(_progress(elapsed, seconds), _table(view)), refresh=True)

    def end(self, view: View) -> None:
        self._live.update(_table(view), refresh=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, kind: Optional[type[BaseException]], exc: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self._live.stop()


def _progress(elapsed: float, seconds: float) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    line = Table.grid(padding=(0, 1))
    state = f'{elapsed:.0f} of {seconds:g} s' if elapsed < seconds else 'no more is sent; working off what waits'
    line.add_row(ProgressBar(total=seconds, completed=min(elapsed, seconds), width=28), state)
    return line


def _table(view: View) -> Any:
    from rich import box
    from rich.table import Table
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style='dim')
    table.add_column(HEADER[0], style='bold', no_wrap=True)
    for name in HEADER[1:]:
        # Wide enough for what may come, lest the columns move.
        table.add_column(name, justify='right', min_width=6, no_wrap=True)
    colours = iter(('green', 'yellow'))
    colour = ''
    for name, *counts, median, high, longest in rows(view):
        if name:
            table.add_section()
            colour = next(colours)
        table.add_row(name, *counts, f'[{colour}]{median}', high, longest)
    return table
