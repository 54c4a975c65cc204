"""What the kinds of options have in common: each option is stated once, with its type, default and check."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .checks import Check, per_second, unknown, within
from .errors import ConfigError

__all__ = ('Options', 'option', 'instance', 'storable')

T = TypeVar('T', bound='Options')


def option(default: Any, check: Check) -> Any:
    """A field of `Options`: its default, or a type that makes one; and what it may be."""
    kind = 'default_factory' if isinstance(default, type) else 'default'
    return field(**{kind: default}, metadata={'check': check})


def _check_names(cls: Any, names: Iterable[Any]) -> None:
    known = [each.name for each in fields(cls)]
    for name in names:
        if name not in known:
            raise ConfigError(unknown(f'{cls.__name__} option', name, known))


@dataclass(frozen=True)
class Options:
    """Options of one kind. Unknown names and wrong values are a `ConfigError`."""

    def __new__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        _check_names(cls, kwargs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, each.metadata['check'](each.name, getattr(self, each.name)))

    @classmethod
    def from_data(cls: type[T], data: Any) -> T:
        """The options given as plain data (Django settings, YAML, environment)."""
        if not isinstance(data, Mapping):
            raise ConfigError(f'{cls.__name__}: {data!r} is not a mapping of options')
        _check_names(cls, data)
        return cls(**data)

    def as_data(self) -> dict[str, Any]:
        """The same as plain data; `from_data` reads it back."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    def changed(self) -> dict[str, Any]:
        """The options that have another value than by default, as the scripts read them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {each.name: storable(each.name, values[each.name]) for each in fields(self)
                if values[each.name] != each.default}


def instance(cls: type[T]) -> Check:
    """Checks that a value is such options; makes them of a mapping."""
    def check(option: str, value: Any) -> T:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f'{option}: {value!r} is neither {cls.__name__}(...) nor a mapping of its options')
        with within(option):
            return cls.from_data(value)
    return check


def storable(name: str, value: Any) -> Any:
    """An option's value as the scripts read it."""
    return per_second(value) if name == 'rate' and value is not None else value


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.as_data()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
