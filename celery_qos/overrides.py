"""Options that are set at run time: which ones can be, and how the scripts read them."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from math import inf
from typing import Any, Union

from .checks import Check, unknown
from .config import QoS, SubQueue
from .errors import ConfigError
from .options import Options, storable

__all__ = ('overrides', 'parsed', 'stored_as')

#: Options that the settings hash has under other names.
_STORED_AS = {'weight': ('ingress', 'egress'), 'ingress_weight': ('ingress',), 'egress_weight': ('egress',)}
#: Options in which infinity lifts the limit.
_LIMITS = ('capacity', 'max_in_flight', 'rate')


#: As text: again what the config says, and no limit.
_FORGET, _LIFT = ('', 'none', 'default'), 'unlimited'
_FLAGS = {'true': True, 'yes': True, 'on': True, 'false': False, 'no': False, 'off': False}


def overrides(kind: type[Options], options: Mapping[str, Any]) -> dict[str, Any]:
    """Name and value of the options as they are stored; None is for a limit that infinity lifted.

    Arguments:
        kind: `Tenant`, `SubQueue`, `Egress`, or `QoS` for the queue itself.

    Raises:
        ConfigError: an option is unknown, cannot be set at run time, or has a value it cannot have.
    """
    settable = _settable(kind)
    found: dict[str, Any] = {}
    # A half of a sub-queue's weight wins over the whole.
    for name in sorted(options, key=lambda name: name != 'weight'):
        names, value = stored_as(kind, name), options[name]
        if value is None:
            raise ConfigError(f'{name}: None is not a value to set; infinity lifts a limit')
        if name in _LIMITS and isinstance(value, float) and value == inf:
            kept = None
        else:
            kept = storable(name, settable[name](name, value))
        found.update(dict.fromkeys(names, kept))
    return found


def parsed(kind: type[Options], texts: Mapping[str, str], texts_first: Collection[str] = ()) -> dict[str, Any]:
    """Options that come as text, such as ``{'weight': '3', 'capacity': 'none'}``, with the values that they stand for.

    Empty text, ``none`` and ``default`` are None: again what the config says. ``unlimited`` is infinity.

    Arguments:
        kind: as for `overrides`.
        texts_first: values that are what they say, such as the names of sub-queues, one of which may be ``default``.

    Raises:
        ConfigError: as for `overrides`.
    """
    settable = _settable(kind)
    found: dict[str, Any] = {}
    for name, text in texts.items():
        stored_as(kind, name)
        if text in _FORGET and not (name == 'sub_queue' and text in texts_first):
            found[name] = None
        elif name in _LIMITS and text == _LIFT:
            found[name] = inf
        else:
            found[name] = _value_of(name, text, settable[name])
    return found


def _value_of(name: str, text: str, check: Check) -> Any:
    """The text itself where it may be that, else the number or the truth value that it stands for."""
    try:
        check(name, text)
        return text
    except ConfigError as exc:
        value = _plain_value(text)
        if isinstance(value, str):
            if _accepts(check, name, True):
                raise ConfigError(f'{name}: {text!r} is neither yes nor no') from exc
            raise exc
    check(name, value)
    return value


def _accepts(check: Check, name: str, value: Any) -> bool:
    try:
        check(name, value)
    except ConfigError:
        return False
    return True


def _plain_value(text: str) -> Union[bool, int, float, str]:
    if text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    for number in int, float:
        try:
            return number(text)
        except ValueError:
            pass
    return text


def stored_as(kind: type[Options], option: str) -> tuple[str, ...]:
    """The names under which an option is stored when it is set at run time.

    Raises:
        ConfigError: there is no such option, or it cannot be set at run time.
    """
    settable = _settable(kind)
    if option not in settable:
        raise ConfigError(unknown('option', option, settable))
    return _STORED_AS.get(option, (option,)) if kind is SubQueue else (option,)


def _settable(kind: type[Options]) -> dict[str, Check]:
    """Option to check."""
    if kind is QoS:
        names = ['algorithm', 'max_deliveries', 'max_dead_letters']
    else:
        names = [each.name for each in fields(kind) if each.name != 'name']
    return {each.name: each.metadata['check'] for each in fields(kind) if each.name in names}
