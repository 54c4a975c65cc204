"""What the value of an option may be.

A check takes the option's name and the value, and returns the value as it is kept. It raises `ConfigError` with the
name, the value, and what would be right.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import inf
from typing import Any, Union

from .errors import ConfigError

__all__ = ('Check', 'number', 'whole', 'weight', 'rate', 'per_second', 'flag', 'one_of', 'sub_queue_name', 'optional',
           'unknown', 'unknown_queue', 'hint', 'within', 'MIN_WEIGHT', 'MAX_WEIGHT', 'MAX_COUNT')

Check = Callable[[str, Any], Any]

#: Turns are reckoned in floating point: beyond these, a turn could be lost in rounding and a tenant never come on.
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6
#: Above any real number of tasks; the scripts still write it digit by digit.
MAX_COUNT = 10 ** 12
#: Seconds; above any real duration, and in ms still a whole number for the scripts.
_MAX_SECONDS = 1e9
#: What a sub-queue cannot be called: the two ends of the queue.
_RESERVED = ('ingress', 'egress')
#: Longest name of a sub-queue, in bytes of UTF-8.
_MAX_NAME_BYTES = 255
_SECONDS = {'s': 1, 'm': 60, 'h': 3600}


def number(least: float = 0, most: float = _MAX_SECONDS) -> Check:
    """A number above 0, from `least` to `most`."""
    def check(option: str, value: Any) -> float:
        # NaN is above nothing; a comparison takes whole numbers that are too large for a float.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < inf:
            raise ConfigError(f'{option}: {value!r} is not a number above 0')
        if not least <= value <= most:
            raise ConfigError(f'{option}: {value!r} is outside {least:g} to {most:g}')
        return float(value)
    return check


weight = number(MIN_WEIGHT, MAX_WEIGHT)


def whole(least: int = 1, most: int = MAX_COUNT) -> Check:
    """A whole number, from `least` to `most`."""
    def check(option: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f'{option}: {value!r} is not a whole number from {least} on')
        if value > most:
            raise ConfigError(f'{option}: {value!r} is above {most}')
        return value
    return check


def rate(option: str, value: Any) -> Union[str, float]:
    """Tasks per second, minute or hour, such as ``'100/m'``; or a number, per second."""
    seconds = per_second(value, option)
    return value if isinstance(value, str) else seconds


def per_second(value: Any, option: str = 'rate') -> float:
    """Tasks a second of what `rate` allows."""
    if not isinstance(value, str):
        return number(MIN_WEIGHT, MAX_WEIGHT)(option, value)
    found = re.fullmatch(r'([0-9]+(?:\.[0-9]+)?)/([smh])', value)
    if not found or not float(found[1]):
        raise ConfigError(f"{option}: {value!r} is not a rate above 0 such as '10/s', '100/m' or '5000/h'")
    seconds = float(found[1]) / _SECONDS[found[2]]
    if not MIN_WEIGHT <= seconds <= MAX_WEIGHT:
        raise ConfigError(f'{option}: {value!r} is outside {MIN_WEIGHT:g} to {MAX_WEIGHT:g} tasks a second')
    return seconds


def flag(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f'{option}: {value!r} is neither True nor False')
    return value


def one_of(known: Iterable[str]) -> Check:
    """One of these texts."""
    names = tuple(known)

    def check(option: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ConfigError(unknown(option, value, names))
        return value
    return check


def sub_queue_name(option: str, value: Any) -> str:
    """What a sub-queue may be called: text, or a number as its index is one."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f'{option}: {value!r} is not the name of a sub-queue, which is text')
    name = str(value)
    if name in _RESERVED:
        raise ConfigError(f'{option}: {name!r} is reserved; give another name')
    if not name.isprintable() or ':' in name or not 1 <= len(name.encode('utf-8', 'replace')) <= _MAX_NAME_BYTES:
        raise ConfigError(f'{option}: {name!r} cannot be a name; it must be 1 to {_MAX_NAME_BYTES} bytes of printable '
                          f'UTF-8 without a colon')
    return name


def optional(check: Check) -> Check:
    """None, or what `check` allows."""
    def check_or_none(option: str, value: Any) -> Any:
        return None if value is None else check(option, value)
    return check_or_none


def unknown(what: str, value: Any, known: Iterable[str]) -> str:
    """The text of the error about a name that does not exist."""
    return f'{what}: {value!r} is unknown; {hint(value, known)}'


def unknown_queue(name: str, known: Iterable[str]) -> str:
    """The same about a Celery queue; `known` are those of the app."""
    return f'queue: {name!r} is unknown to this app and to Redis; {hint(name, known)}'


def hint(value: Any, known: Iterable[str]) -> str:
    """What may have been meant by a name that does not exist."""
    names = list(known)
    near = get_close_matches(str(value), names, n=1)
    return f'did you mean {near[0]!r}?' if near else 'one of ' + ', '.join(map(repr, names))


@contextmanager
def within(place: str) -> Iterator[None]:
    """Errors inside name the place too."""
    try:
        yield
    except ConfigError as exc:
        raise ConfigError(f'{place}: {exc}') from exc.__cause__
