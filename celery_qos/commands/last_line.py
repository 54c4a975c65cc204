"""How far long work is, on a terminal's last line."""
from __future__ import annotations

import sys
from time import monotonic
from typing import Any

import click

__all__ = ('LastLine',)

#: Seconds between two updates; work that is over before the first shows none.
INTERVAL = 0.2


class LastLine:
    """A context manager; called with what is looked at, how much of it was, and of how much.

    Arguments:
        quiet: show nothing, as where standard error is no terminal.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._shown, self._at = False, monotonic()

    def __enter__(self) -> LastLine:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.clear()

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._quiet and monotonic() - self._at > INTERVAL:
            self._at, self._shown = monotonic(), True
            click.echo(f'\r\x1b[K{what}: {done:,} of {total:,}', nl=False, err=True)

    def clear(self) -> None:
        if self._shown:
            click.echo('\r\x1b[K', nl=False, err=True)
            self._shown = False
