"""Names, numbers and times in sentences."""
from __future__ import annotations

from ..errors import TenantKeyError
from ..path import key_of

__all__ = ('named', 'counted', 'rate_of', 'duration')


def named(path: str) -> str:
    try:
        return repr(key_of(path))
    except TenantKeyError:
        return repr(path)


def counted(number: int, what: str) -> str:
    return f'{number:,} {what}' + ('' if number == 1 else 's')


def rate_of(a_second: float) -> str:
    """As options have it, such as ``5/m``."""
    for unit, seconds in ('s', 1), ('m', 60), ('h', 3600):
        if a_second * seconds >= 1:
            return f'{a_second * seconds:g}/{unit}'
    return f'{a_second * 86400:g}/d'


def duration(seconds: float) -> str:
    """Two units at most, such as ``2 h 5 min``."""
    whole = int(seconds)
    for name, size, below, size_below in (('d', 86400, 'h', 3600), ('h', 3600, 'min', 60), ('min', 60, 's', 1)):
        if whole >= size:
            rest = whole % size // size_below
            return f'{whole // size} {name}' + (f' {rest} {below}' if rest else '')
    return f'{seconds:.1f} s' if seconds < 10 else f'{whole} s'
