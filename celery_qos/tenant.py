"""Finds the tenant a task is accounted to and stamps it on the message.

First match: ``apply_async(tenant=...)`` or the header ``tenant``; the task's ``tenant_key``; the tenant of the task that
publishes; the empty tenant.
"""
from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any, Optional

from celery import signals
from celery._state import _get_active_apps, current_app, get_current_task

from .errors import ConfigError, QoSError, TenantKeyError

__all__ = ('install', 'of_message', 'checked')

HEADER = 'tenant'
#: Longest tenant key, in bytes of UTF-8.
MAX_BYTES = 255


def install() -> None:
    """Stamp every task that this process publishes."""
    signals.before_task_publish.connect(stamp, dispatch_uid='celery_qos.tenant', weak=False)


def checked(key: Any) -> str:
    """The key as text.

    Raises:
        TenantKeyError: it is empty, too long, not printable, or a collection.
    """
    if isinstance(key, (tuple, list, set, dict, bytes)):
        raise TenantKeyError(f'tenant key {key!r}: a {type(key).__name__} cannot be a tenant key; give text or a number')
    text = str(key)
    if not text.isprintable():
        raise TenantKeyError(f'tenant key {text!r}: has a character that is not printable')
    size = len(text.encode('utf-8', 'replace'))
    if not 1 <= size <= MAX_BYTES:
        raise TenantKeyError(f'tenant key {text!r}: has {size} bytes of UTF-8; it must have 1 to {MAX_BYTES}')
    return text


def of_message(message: dict[str, Any]) -> str:
    """The tenant a message is stamped with; '' without one.

    Raises:
        QoSError: the tenant could not be found, or cannot be a key.
    """
    key = (message.get('headers') or {}).get(HEADER)
    if key is None:
        key = message['properties'].get(HEADER)
    if isinstance(key, QoSError):
        raise key
    return '' if key is None or key == '' else checked(key)


def stamp(sender: str, headers: dict, properties: dict, body: Any, **kwargs: Any) -> None:
    """Receiver of `celery.signals.before_task_publish`: put the tenant into the headers.

    Celery logs what a receiver raises and publishes all the same, so an error travels in the header's place to
    `of_message`, which raises it in the publisher.
    """
    try:
        key = properties.pop(HEADER, None)
        if key is None:
            key = headers.get(HEADER)
        if key is None:
            key = _from_arguments(sender, headers, body)
        if key is None:
            key = _from_parent()
        if key is not None:
            headers[HEADER] = key if key == '' else checked(key)
    except QoSError as exc:
        headers[HEADER] = exc


def _from_parent() -> Optional[str]:
    task = get_current_task()
    if task is None or task.request is None:
        return None
    return (task.request.headers or {}).get(HEADER) or getattr(task.request, HEADER, None)


def _from_arguments(name: str, headers: dict, body: Any) -> Any:
    task = _task(name)
    tenant_key = getattr(task, 'tenant_key', None)
    if tenant_key is None:
        return None
    args, kwargs = _arguments(body)
    if callable(tenant_key):
        try:
            return tenant_key(*args, **kwargs)
        except Exception as exc:
            raise TenantKeyError(f'task {name!r}: its tenant_key {tenant_key!r} raised {exc!r}') from exc
    _check_argument(task.run, name, tenant_key)
    if tenant_key in kwargs:
        return kwargs[tenant_key]
    try:
        bound = inspect.signature(task.run).bind_partial(*args, **kwargs)
    except TypeError as exc:
        raise TenantKeyError(f'task {name!r}: no argument {tenant_key!r} in the call: {exc}') from exc
    bound.apply_defaults()
    return bound.arguments.get(tenant_key)


def _task(name: str) -> Any:
    apps = [current_app._get_current_object(), *_get_active_apps()]
    return next((app._tasks[name] for app in apps if name in app._tasks), None)


def _arguments(body: Any) -> tuple[Any, Any]:
    if isinstance(body, dict):      # task protocol 1
        return body.get('args') or (), body.get('kwargs') or {}
    return body[0], body[1]


@lru_cache(maxsize=None)
def _check_argument(run: Any, name: str, tenant_key: str) -> None:
    parameters = inspect.signature(run).parameters
    if tenant_key not in parameters and not any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ConfigError(f'task {name!r}: tenant_key {tenant_key!r} is not an argument of it; '
                          f'it takes {", ".join(parameters) or "none"}')
