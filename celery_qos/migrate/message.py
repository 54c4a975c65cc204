"""A message as the stock Redis transport keeps it, and as this one does: from the one to the other."""
from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Optional
from uuid import uuid4

from kombu.utils.json import loads

from ..codec import decode
from ..store import Delivery

__all__ = ('parse', 'parse_unacked', 'message_of', 'readdress', 'task_id_of')


def parse(entry: bytes) -> dict[str, Any]:
    """The message in an entry of a list, its body as it was serialized.

    Raises:
        ValueError: it is none.
    """
    return checked(_loaded(entry))


def parse_unacked(entry: bytes) -> tuple[dict[str, Any], str, str]:
    """Message, exchange and routing key in an entry of the hash of what is not acknowledged.

    Raises:
        ValueError: it is none.
    """
    found = _loaded(entry)
    if not isinstance(found, list) or len(found) != 3 or not isinstance(found[0], dict):
        raise ValueError('it is not a message, an exchange and a routing key')
    message, exchange, routing_key = found
    checked(dict(message, properties=dict(_object(message, 'properties'))))
    return message, str(exchange or ''), str(routing_key or '')


def _loaded(entry: bytes) -> Any:
    try:
        return loads(entry.decode())
    except Exception as exc:
        # JSON may name a type, such as a decimal, which raises errors of its own.
        raise ValueError(f'it is not JSON: {type(exc).__name__}') from exc


def _object(message: dict[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise ValueError(f'its {name} are not a JSON object')
    return value


def checked(message: Any) -> dict[str, Any]:
    """`message`, its body as it was serialized."""
    if not isinstance(message, dict) or not isinstance(message.get('body'), str):
        raise ValueError('it is not a JSON object with a body')
    properties = _object(message, 'properties')
    message['headers'] = message.get('headers') or {}
    _object(message, 'headers')
    if not isinstance(properties.setdefault('delivery_info', {}), dict):
        raise ValueError('its delivery_info is not a JSON object')
    encoding = properties.pop('body_encoding', None)
    if encoding == 'base64':
        try:
            message['body'] = b64decode(message['body'], validate=True)
        except ValueError as exc:
            raise ValueError(f'its body is not base64: {exc}') from exc
    elif encoding not in (None, 'utf-8'):
        raise ValueError(f'its body_encoding is {encoding!r}')
    # As Kombu numbers the messages of a process: a new one is made where it is published.
    properties.setdefault('delivery_tag', str(uuid4()))
    for name in 'content-type', 'content-encoding':
        if not isinstance(message.get(name), (str, type(None))):
            raise ValueError(f'its {name} is not text')
    return message


def readdress(message: dict[str, Any], queue: str) -> None:
    """Have the message, and its retries, belong to another queue than it was published to."""
    message['properties']['delivery_info'] = {
        **message['properties'].get('delivery_info', {}), 'exchange': '', 'routing_key': queue}


def message_of(delivery: Delivery, queue: Optional[str] = None) -> dict[str, Any]:
    """The message that this transport keeps in these fields, as the stock one does; in another `queue`, if any.

    Raises:
        ValueError: it is no message.
    """
    message = decode(delivery)
    if delivery.fields.get(b'eta') and not message['headers'].get('eta'):
        # What was a time of a type of its own is text now, as Celery publishes it.
        message['headers']['eta'] = delivery.fields[b'eta'].decode().replace(' ', 'T', 1)
    message['body'] = b64encode(message['body']).decode()
    message['properties'].update(body_encoding='base64', delivery_tag=str(uuid4()))
    if queue is not None:
        readdress(message, queue)
    return message


def task_id_of(message: dict[str, Any]) -> str:
    return str(message['headers'].get('id') or message['properties'].get('correlation_id') or 'without an id')
