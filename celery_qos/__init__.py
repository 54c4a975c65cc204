"""Weighted fair queueing between tenants for Celery, on Redis Streams."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import plugin as plugin

if TYPE_CHECKING:
    from .app import Control, control, setup
    from .config import Egress, QoS, SubQueue, Tenant
    from .errors import ConfigError, QoSError, QueueFull, SchemaMismatch, TenantKeyError, UnsupportedServer

__version__ = '0.1.0'

_HOME = {
    'setup': 'app', 'control': 'app', 'Control': 'app', 'QoS': 'config', 'SubQueue': 'config', 'Egress': 'config',
    'Tenant': 'config', 'QoSError': 'errors', 'ConfigError': 'errors', 'TenantKeyError': 'errors',
    'QueueFull': 'errors', 'SchemaMismatch': 'errors', 'UnsupportedServer': 'errors',
}

__all__ = ('setup', 'control', 'Control', 'QoS', 'SubQueue', 'Egress', 'Tenant', 'QoSError', 'ConfigError',
           'TenantKeyError', 'QueueFull', 'SchemaMismatch', 'UnsupportedServer')


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: Kombu's plugin must not pull in the whole package."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None
    return getattr(import_module(f'.{home}', __name__), name)
