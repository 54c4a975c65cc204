"""Finds the tenant of a task that was published when there were none."""
from __future__ import annotations

from typing import Any, Optional

from celery import Celery
from kombu.compression import decompress
from kombu.serialization import loads, prepare_accept_content

from .. import tenant
from ..errors import QoSError
from ..path import keys_of, parse_path

__all__ = ('Tenants',)


class Tenants:
    """Stamps messages with their tenants: the one in their headers, else the one that the task's ``tenant_key`` finds.

    Arguments:
        app: has the tasks.
        otherwise: whose the tasks are of which none is found; '' for the empty tenant.
        always: whose all tasks are, whatever they say; None for each its own.

    Raises:
        TenantKeyError: there can be no such tenant.
    """

    def __init__(self, app: Celery, otherwise: str = '', always: Optional[str] = None) -> None:
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._otherwise = parse_path(otherwise)
        self._always = None if always is None else parse_path(always)
        app.set_current()
        app.loader.import_default_modules()
        app.finalize()

    def stamp(self, message: dict[str, Any]) -> Optional[str]:
        """Returns what kept the tenant from being found, '' where nothing says which it is; None where it was found."""
        problem: Optional[str] = ''
        path = self._always
        if path is not None:
            problem = None
        else:
            try:
                path = tenant.of_message(message) or self._of_call(message)
                problem = '' if path is None else None
            except QoSError as exc:
                problem = str(exc)
            except Exception as exc:
                problem = f'the body cannot be read: {exc!r}'
        path = self._otherwise if path is None else path
        keys = keys_of(path) if path else []
        _put(message, tenant.HEADER, keys if len(keys) > 1 else keys[0] if keys else None)
        self._name_sub_queue(message)
        return problem

    def _name_sub_queue(self, message: dict[str, Any]) -> None:
        headers = message['headers']
        try:
            if not tenant.sub_queue_of(message) and (named := tenant.sub_queue_of_task(headers.get('task', ''))):
                _put(message, tenant.SUB_QUEUE, named)
                tenant.sub_queue_of(message)
        except QoSError:
            # It goes to where tasks go that name none.
            _put(message, tenant.SUB_QUEUE, None)

    def _of_call(self, message: dict[str, Any]) -> Optional[str]:
        name = message['headers'].get('task')
        if name and not tenant.is_in_call(name):
            return None
        body = self._body(message)
        if not name:        # task protocol 1
            name = body.get('task') if isinstance(body, dict) else None
        return tenant.of_call(name, body) if name else None

    def _body(self, message: dict[str, Any]) -> Any:
        body, compression = message['body'], message['headers'].get('compression')
        if compression:
            body = decompress(body, compression)
        return loads(body, message.get('content-type'), message.get('content-encoding'), accept=self._accept)


def _put(message: dict[str, Any], header: str, value: Any) -> None:
    """Have the message say so, and nothing else; where it has headers inside its headers, its retries too."""
    headers = message['headers']
    message['properties'].pop(header, None)
    if value is not None:
        headers[header] = value
        tenant.keep_for_retries(headers, header, value)
        return
    headers.pop(header, None)
    if isinstance(inner := headers.get('headers'), dict):
        headers['headers'] = {name: each for name, each in inner.items() if name != header}
