"""What an option's import path names, such as ``'package.module:attribute'``."""
from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import ConfigError

__all__ = ('imported',)


def imported(text: str) -> Any:
    """Import it.

    Raises:
        ConfigError: it cannot be had.
    """
    module, _, attribute = text.partition(':')
    try:
        found: Any = import_module(module)
        for name in attribute.split('.'):
            found = getattr(found, name)
    except Exception as exc:
        raise ConfigError(f'{text!r} cannot be imported: {exc!r}') from exc
    return found
