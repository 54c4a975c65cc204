"""Finds the tenant a task is accounted to, and the sub-queue it names, and stamps them on the message.

The tenant, first match: ``apply_async(tenant=...)`` or the header ``tenant``; the task's ``tenant_key``; the tenant of
the task that publishes; what the option ``current_tenant`` says; the empty tenant. The sub-queue:
``apply_async(sub_queue=...)`` or the header ``sub_queue``; the task's ``sub_queue``; none. A retry keeps both, as its
headers are those of the task before.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Optional
from weakref import WeakValueDictionary

from celery import signals
from celery._state import _get_active_apps, _task_stack, current_app
from celery.app.task import Context

from .checks import sub_queue_name
from .errors import ConfigError, QoSError, TenantKeyError
from .path import keys_of, path_of

__all__ = ('install', 'of_message', 'sub_queue_of', 'is_in_call', 'of_call', 'sub_queue_of_task',
           'keep_for_retries')

HEADER = 'tenant'
SUB_QUEUE = 'sub_queue'
#: Publishes a chord's body, or its errbacks, so it is of the body's tenant and sub-queue.
UNLOCK = 'celery.chord_unlock'

#: Task id to what a worker of this process was delivered, for as long as it is at work on it.
_received: WeakValueDictionary[str, Any] = WeakValueDictionary()


def install() -> None:
    """Stamp every task that this process publishes."""
    signals.before_task_publish.connect(stamp, dispatch_uid='celery_qos.tenant', weak=False)
    signals.task_received.connect(_remember, dispatch_uid='celery_qos.tenant', weak=False)


def _remember(request: Any, **kwargs: Any) -> None:
    _received[request.id] = request


def of_message(message: dict[str, Any], current_tenant: Optional[Callable[[], Any]] = None) -> str:
    """The path of the tenant that a message is stamped with; '' without one.

    Arguments:
        current_tenant: says whose it is where it has no stamp, which it gets then.

    Raises:
        QoSError: the tenant could not be found, or cannot be a key.
    """
    key = _stamped(message, HEADER)
    if key is None and current_tenant is not None:
        key = _stamp_current(message, current_tenant)
    return '' if key is None or key == '' else path_of(key)


def _stamp_current(message: dict[str, Any], current_tenant: Callable[[], Any]) -> Any:
    headers = message.get('headers') or {}
    if headers.get('retries'):
        return None     # a task stays where it was, whatever the worker that tries it again is about
    try:
        key = current_tenant()
    except Exception as exc:
        raise TenantKeyError(f'task {headers.get("task")!r}: current_tenant {current_tenant!r} raised {exc!r}') from exc
    if key is not None:
        headers[HEADER] = key = _as_stamped(key)
        message['headers'] = headers
    return key


def sub_queue_of(message: dict[str, Any]) -> str:
    """The sub-queue that a message names; '' where it names none.

    Raises:
        QoSError: what it names cannot be a sub-queue.
    """
    name = _stamped(message, SUB_QUEUE)
    return '' if name is None or name == '' else sub_queue_name(SUB_QUEUE, name)


def is_in_call(name: str) -> bool:
    """Whether the arguments of a task of this name say whose it is."""
    return name == UNLOCK or _tenant_key(_task(name)) is not None


def of_call(name: str, body: Any) -> Optional[str]:
    """The path of the tenant that the arguments of a task say, in the body of its message; None where they do not.

    Raises:
        QoSError: the tenant could not be found, or cannot be a key.
    """
    key = _from_arguments(name, {}, body)
    return None if key is None else '' if key == '' else path_of(key)


def sub_queue_of_task(name: str) -> Any:
    """The sub-queue of the tasks of this name that name none themselves; None where they have none."""
    return getattr(_task(name), SUB_QUEUE, None)


def _stamped(message: dict[str, Any], header: str) -> Any:
    value = (message.get('headers') or {}).get(header)
    if value is None:
        value = message['properties'].get(header)
    if isinstance(value, QoSError):
        raise value
    return value


def stamp(sender: str, headers: dict, properties: dict, body: Any, **kwargs: Any) -> None:
    """Receiver of `celery.signals.before_task_publish`: put the tenant and the sub-queue into the headers.

    Celery logs what a receiver raises and publishes all the same, so an error travels in the header's place to
    `of_message` or `sub_queue_of`, which raises it in the publisher.
    """
    for header, find in (HEADER, _tenant), (SUB_QUEUE, _sub_queue):
        value = properties.pop(header, None)
        if value is None:
            value = headers.get(header)
        try:
            value = find(value, sender, headers, body)
        except QoSError as exc:
            value = exc
        if value is None:
            headers.pop(header, None)
        else:
            headers[header] = value
            keep_for_retries(headers, header, value)
    # Of the delivery that a retry took it from.
    headers.pop('redelivered', None)


def keep_for_retries(headers: dict, header: str, value: Any) -> None:
    """Where headers have headers inside (Sentry sees to that), a task knows those alone, and its retries bear them."""
    inner = headers.get('headers')
    if isinstance(inner, dict):
        headers['headers'] = {**inner, header: value}


def _tenant(key: Any, name: str, headers: dict, body: Any) -> Any:
    """As it is stamped: text, or a list of the keys of a path."""
    if key is None:
        key = _from_arguments(name, headers, body)
    if key is None:
        key = _from_parent(headers, body)
    return _as_stamped(key)


def _as_stamped(key: Any) -> Any:
    if key is None or key == '':
        return key
    keys = keys_of(path_of(key))
    return keys if len(keys) > 1 else keys[0]


def _sub_queue(named: Any, name: str, headers: dict, body: Any) -> Optional[str]:
    if named is None:
        args, _ = _arguments(body)
        named = _option(args[1], SUB_QUEUE) if name == UNLOCK and len(args) > 1 else \
            getattr(_task(name), SUB_QUEUE, None)
    if named is None or named == '':
        return named
    try:
        return sub_queue_name(SUB_QUEUE, named)
    except ConfigError as exc:
        raise ConfigError(f'task {name!r}: {exc}') from None


def _from_parent(headers: dict, body: Any) -> Optional[str]:
    """The tenant of the task that publishes, or else of the task that is published for."""
    for context in _running():
        key = (context.headers or {}).get(HEADER)
        if key is not None:
            return key
    # A worker's main process publishes the errbacks of tasks that lost their process or hit their hard time limit.
    parent = (body if isinstance(body, dict) else headers).get('parent_id')
    request = _failed(parent) if parent and _received else None
    return request and (request.request_dict.get('headers') or request.request_dict).get(HEADER)


def _failed(task_id: str) -> Any:
    """What this worker was delivered as that task, or as a member of the chord with that task as its body."""
    return _received.get(task_id) or next((
        request for request in list(_received.values())
        if request.chord and request.chord['options'].get('task_id') == task_id), None)


def _running() -> Iterator[Context]:
    """What this thread executes, innermost first: a task may call others, or execute them eagerly."""
    for task in reversed(_task_stack.stack):
        for context in reversed(task.request_stack.stack):
            yield context
            if context.called_directly and context.args and isinstance(context.args[0], Context):
                yield context.args[0]       # an errback that is called with the failed request


def _from_arguments(name: str, headers: dict, body: Any) -> Any:
    args, kwargs = _arguments(body)
    if name == UNLOCK and len(args) > 1:
        return _option(args[1], HEADER)
    task = _task(name)
    tenant_key = _tenant_key(task)
    if tenant_key is None:
        return None
    if callable(tenant_key):
        try:
            return tenant_key(*args, **kwargs)
        except Exception as exc:
            raise TenantKeyError(f'task {name!r}: its tenant_key {tenant_key!r} raised {exc!r}') from exc
    if not isinstance(tenant_key, str):
        raise ConfigError(f'task {name!r}: tenant_key {tenant_key!r} is neither the name of an argument nor a callable')
    if tenant_key in kwargs:
        return kwargs[tenant_key]
    position = _position(task.run, tenant_key)
    if position is not None and position < len(args):
        return args[position]       # 3 us; to bind the whole call takes 20
    signature = _signature(task.run)
    _check_argument(signature, name, tenant_key)
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError as exc:
        raise TenantKeyError(f'task {name!r}: no argument {tenant_key!r} in the call: {exc}') from exc
    bound.apply_defaults()
    return bound.arguments.get(tenant_key)


def _option(signature: Any, header: str) -> Any:
    options = signature.get('options') or {}
    return options.get(header, (options.get('headers') or {}).get(header))


def _task(name: str) -> Any:
    app = current_app._get_current_object()
    # Before its first use an app may not have registered its own tasks yet.
    task = (app.tasks if app.autofinalize else app._tasks).get(name)
    return task or next((each._tasks[name] for each in _get_active_apps() if name in each._tasks), None)


def _tenant_key(task: Any) -> Any:
    options = vars(type(task))
    if '_decorated' in options and 'tenant_key' in options:
        # The decorator makes options attributes of a class, where a function would become a method.
        return options['tenant_key']
    return getattr(task, 'tenant_key', None)


def _arguments(body: Any) -> tuple[Any, Any]:
    if isinstance(body, dict):      # task protocol 1
        return body.get('args') or (), body.get('kwargs') or {}
    return body[0], body[1]


@lru_cache(maxsize=4096)
def _signature(run: Any) -> inspect.Signature:
    return inspect.signature(run)


@lru_cache(maxsize=4096)
def _position(run: Any, name: str) -> Optional[int]:
    """Of the argument among those that are given by position; None where it is not."""
    for position, parameter in enumerate(_signature(run).parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return None
        if parameter.name == name:
            return position
    return None


def _check_argument(signature: inspect.Signature, name: str, tenant_key: str) -> None:
    parameters = signature.parameters
    if tenant_key not in parameters and not any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ConfigError(f'task {name!r}: tenant_key {tenant_key!r} is not an argument of it; '
                          f'it takes {", ".join(parameters) or "none"}')
