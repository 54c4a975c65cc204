"""How commands are told which tenant they are about, the same for all: TENANT, and --inside for tuple keys."""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Union

import click

__all__ = ('tenant_argument', 'optional_tenant_argument', 'tenant_option', 'Key')

#: What a program calls a tenant.
Key = Union[str, tuple[str, ...]]

_INSIDE = click.option(
    '--inside', 'outer', metavar='KEY', multiple=True,
    help="For tuple keys: TENANT is inside the tenant of this key; given twice, the outermost first. "
         "('acme', 'alice') is  alice --inside acme.")


def tenant_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """TENANT and ``--inside``; the function gets `tenant`. An empty TENANT is the empty tenant."""
    return click.argument('tenant', metavar='TENANT')(_INSIDE(_joined(function)))


def tenant_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for commands that may be about all tenants: then `tenant` is None."""
    return click.option('--tenant', metavar='TENANT', help='Only of this tenant, and of those inside it.')(
        _INSIDE(_joined(function)))


def _joined(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, tenant: Any, outer: tuple[str, ...], **kwargs: Any) -> Any:
        if outer and tenant is None:
            raise click.UsageError('--inside says where a tenant is: name the tenant too')
        return function(*args, tenant=(*outer, tenant) if outer else tenant, **kwargs)
    return run


def optional_tenant_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """TENANT and ``--inside`` of commands that may be about something else: then `tenant` is None."""
    return click.argument('tenant', metavar='[TENANT]', required=False)(_INSIDE(_joined(function)))
