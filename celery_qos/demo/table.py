"""The table of all tenants on both transports, as text."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from .side import TenantState
from .waits import Wait

__all__ = ('HEADER', 'View', 'rows', 'as_text')

#: A transport's name to what its tenants' tasks do.
View = Mapping[str, Sequence[TenantState]]

HEADER = ('', 'tenant', 'waiting', 'in flight', 'done', 'wait p50', 'p95', 'max')


def rows(view: View) -> list[tuple[str, ...]]:
    """The cells under `HEADER`; a transport is named in its first row."""
    return [_row(name if place == 0 else '', state)
            for name, states in view.items() for place, state in enumerate(states)]


def as_text(view: View) -> str:
    """The table without colours."""
    lines = [HEADER, *rows(view)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join('  '.join(cell.ljust(width) if place == 0 else cell.rjust(width)
                               for place, (cell, width) in enumerate(zip(line, widths, strict=True)))
                     for line in lines)


def _row(name: str, state: TenantState) -> tuple[str, ...]:
    figures = (state.waits.median, state.waits.quantile(0.95), state.waits.longest)
    return (name, state.tenant, str(state.waiting), str(state.in_flight), str(state.done), *map(_figure, figures))


def _figure(wait: Optional[Wait]) -> str:
    return '-' if wait is None else str(wait)
