"""How far long work has come, and a way to end it where nothing is half done."""
from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from time import monotonic
from types import FrameType
from typing import Any, Optional

import click

__all__ = ('Progress', 'Interrupted')

#: Seconds between two lines where there is no terminal; the first comes after as many.
LINE_EVERY = 5.0
#: Seconds after which a bar is drawn: most work is done before.
_BAR_AFTER = 0.5


class Interrupted(KeyboardInterrupt):
    """The user ended the work; the text says how far it came."""


class Progress:
    """A context manager around work that is done in steps; on standard error.

    The first Ctrl-C ends the work after the step that is under way, a second one at once.

    Arguments:
        what: is done, such as ``deleted``.
        total: steps, as far as that is known.
    """

    def __init__(self, what: str, total: Optional[int] = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._interrupted = False
        self._before: Any = None
        self._draws = sys.stderr.isatty() and find_spec('rich') is not None
        self._due = monotonic() + (_BAR_AFTER if self._draws else LINE_EVERY)
        self._bar: Any = None
        self._task: Any = None

    def __str__(self) -> str:
        return f'{self.what} {self.done:,}' + (f' of {self.total:,}' if self.total else '')

    def advance(self, count: int = 1) -> None:
        """So many more steps are done.

        Raises:
            Interrupted: that was enough.
        """
        self.at(self.done + count)

    def at(self, done: int, total: Optional[int] = None) -> None:
        """As `advance`, for who counts by themselves."""
        self.done, self.total = done, total or self.total
        if self._draws:
            self._draw()
        elif monotonic() > self._due:
            self._due = monotonic() + LINE_EVERY
            click.echo(str(self), err=True)
        if self._interrupted:
            raise Interrupted(str(self))

    def __enter__(self) -> Progress:
        try:
            self._before = signal.signal(signal.SIGINT, self._note)
        except ValueError:
            pass        # only the main thread gets signals
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._bar:
            self._bar.stop()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _draw(self) -> None:
        if self._bar:
            self._bar.update(self._task, completed=self.done, total=self.total)
        elif monotonic() > self._due:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
            self._bar = Bar(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                            console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done)
            self._bar.start()

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if self._interrupted:
            raise Interrupted(str(self))
        self._interrupted = True
