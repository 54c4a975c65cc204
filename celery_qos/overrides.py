"""Options that are set at run time: which ones can be, and how the scripts read them."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from typing import Any

from .checks import Check, unknown
from .config import QoS, SubQueue
from .errors import ConfigError
from .options import Options, storable

__all__ = ('overrides', 'stored_as')

#: Options that the settings hash has under other names.
_STORED_AS = {'weight': ('ingress', 'egress'), 'ingress_weight': ('ingress',), 'egress_weight': ('egress',)}
#: Options in which infinity lifts the limit.
_LIMITS = ('capacity', 'max_in_flight', 'rate')


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
