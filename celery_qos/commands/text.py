"""How commands word things: a tenant, a time, a rate, a count; and nothing that a terminal would take for a command."""
from __future__ import annotations

from datetime import datetime
from typing import Any, Optional, Union

from ..path import keys_of

__all__ = ('NOTHING', 'clean', 'tenant_text', 'seconds_text', 'limit_text', 'rate_text', 'percent_text', 'time_text',
           'number_text', 'tasks_text')

#: Instead of a figure that is not there.
NOTHING = '-'
#: Units of time, and up to how many seconds they are used.
_UNITS = ((100, 1, 's'), (6000, 60, 'min'), (360_000, 3600, 'h'), (float('inf'), 86_400, 'd'))
#: Rates are written per one of these.
_PER = ((1, 's'), (60, 'm'), (3600, 'h'))


def clean(value: Any) -> str:
    """Text on one line; names come from messages, and a message may hold anything."""
    text = str(value)
    return text if text.isprintable() else ''.join(each if each.isprintable() else '\ufffd' for each in text)


def tenant_text(tenant: Union[str, tuple[str, ...], list[str]]) -> str:
    """Its key; the keys of a tuple with ``/`` between them; ``''`` is the empty tenant. `tenant` may be a path."""
    keys = keys_of(tenant) if isinstance(tenant, str) else tenant
    return '/'.join(map(clean, keys)) or "''"


def seconds_text(seconds: Optional[float]) -> str:
    """Such as ``13 ms``, ``2.5 s`` or ``4.2 h``."""
    if seconds is None:
        return NOTHING
    if abs(seconds) < 0.9995:
        return f'{seconds * 1000:.0f} ms'
    size, unit = next((size, unit) for limit, size, unit in _UNITS if abs(seconds) < limit)
    value = seconds / size
    return f'{value:.1f} {unit}' if abs(value) < 9.95 else f'{value:.0f} {unit}'


def rate_text(rate: Optional[float]) -> str:
    """So many tasks a second as were measured, such as ``3.7/s`` or, of few, ``2.5/m``."""
    if not rate:
        return NOTHING
    size, unit = next(((size, unit) for size, unit in _PER if rate * size >= 0.1), _PER[-1])
    value = rate * size
    return f'{value:,.0f}/{unit}' if value >= 9.95 else f'{value:.2g}/{unit}'


def limit_text(rate: float) -> str:
    """A limit of tasks a second, in the unit in which somebody will have said it, such as ``100/m``."""
    for seconds, unit in _PER:
        if abs(rate * seconds - round(rate * seconds)) < 1e-6 * max(1, rate * seconds) and round(rate * seconds):
            return f'{round(rate * seconds)}/{unit}'
    return f'{rate:.3g}/s'


def percent_text(share: Optional[float]) -> str:
    return NOTHING if share is None else f'{100 * share:.1f}%'


def time_text(time: Optional[datetime]) -> str:
    """To the second, in UTC."""
    return NOTHING if time is None else time.strftime('%Y-%m-%d %H:%M:%SZ')


def number_text(number: Optional[float]) -> str:
    """With commas between thousands."""
    return NOTHING if number is None else f'{number:,.0f}' if isinstance(number, int) else f'{number:,g}'


def tasks_text(count: int) -> str:
    return '1 task' if count == 1 else f'{count:,} tasks'
