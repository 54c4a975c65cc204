"""Weighted fair queueing between tenants for Celery, on Redis Streams."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import plugin as plugin

if TYPE_CHECKING:
    from .app import Control, control, setup
    from .config import QoS, Tenant
    from .errors import ConfigError, QoSError, SchemaMismatch, TenantKeyError, UnsupportedServer

__version__ = '0.1.0'

__all__ = ('setup', 'control', 'Control', 'QoS', 'Tenant', 'QoSError', 'ConfigError', 'TenantKeyError',
           'SchemaMismatch', 'UnsupportedServer')

_HOME = {
    'setup': 'app', 'control': 'app', 'Control': 'app', 'QoS': 'config', 'Tenant': 'config', 'QoSError': 'errors',
    'ConfigError': 'errors', 'TenantKeyError': 'errors', 'SchemaMismatch': 'errors', 'UnsupportedServer': 'errors',
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: Kombu's plugin must not pull in the whole package."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None
    return getattr(import_module(f'.{home}', __name__), name)
