"""How commands are told which tenant they are about, the same for all: TENANT, and --inside for tuple keys."""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Union

import click

__all__ = ('tenant_argument', 'optional_tenant_argument', 'tenant_option', 'tenant_words', 'Key')

#: What a program calls a tenant.
Key = Union[str, tuple[str, ...]]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def tenant_words(name: str, metavar: str, required: bool = True, option: str = '') -> Decorator:
    """An argument, or the `option` of that name, and ``--inside``; the function gets both as `name`, a `Key`.

    It is None where neither is there and that is allowed. Empty text is the empty tenant.
    """
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option('--inside', 'outer', metavar='KEY', multiple=True,
                      help='For tuple keys: the tenant is inside the one of this key; given twice, the outermost '
                           "first. ('acme', 'alice') is:  alice --inside acme")
        @wraps(function)
        def run(*args: Any, outer: tuple[str, ...], **kwargs: Any) -> Any:
            inner = kwargs.pop(name)
            if outer and inner is None:
                raise click.UsageError('--inside says where a tenant is: name the tenant too')
            return function(*args, **{name: (*outer, inner) if outer else inner}, **kwargs)

        if option:
            return click.option(option, name, metavar=metavar, help='Only of this tenant, and of those inside it.')(run)
        return click.argument(name, metavar=metavar if required else f'[{metavar}]', required=required)(run)
    return decorate


tenant_argument = tenant_words('tenant', 'TENANT')
optional_tenant_argument = tenant_words('tenant', 'TENANT', required=False)
tenant_option = tenant_words('tenant', 'TENANT', option='--tenant')
