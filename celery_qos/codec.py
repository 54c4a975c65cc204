"""A Kombu message as the fields of a stream entry, readable in redis-cli, and back."""
from __future__ import annotations

import json
from datetime import datetime, timezone
from math import ceil
from typing import Any, Optional

from celery.utils.time import maybe_iso8601
from kombu.utils.json import JSONEncoder, loads

from .store import Delivery, Tracked

__all__ = ('encode', 'decode', 'object_of', 'time_of', 'due_ms', 'tracked', 'enqueued_ms', 'delivery_tag',
           'parse_delivery_tag')

#: One for all: `kombu.utils.json.dumps` makes one for each call, which takes a third of its time.
_dumps = JSONEncoder().encode

#: What a message is where its entry says nothing else.
_USUAL = {'content-type': 'application/json', 'content-encoding': 'utf-8'}

#: Properties that are of one publication, or of one delivery: who republishes a message may take them along.
_NOT_KEPT = ('delivery_tag', 'deduplication_id', 'celery_qos')


def _loads(text: bytes) -> Any:
    """As Kombu has it, whose hook for named types takes a decoder for each call, and a call for each object."""
    return loads(text.decode()) if b'"__type__"' in text else json.loads(text.decode())


def due_ms(message: dict[str, Any]) -> Optional[int]:
    """When a delayed task is due, in ms since the epoch; None for what is no task, or is not delayed."""
    return _ms_of(message, 'eta')


def _ms_of(message: dict[str, Any], header: str) -> Optional[int]:
    headers = message.get('headers') or {}
    if 'task' not in headers or not headers.get(header):
        return None
    try:
        time = maybe_iso8601(headers[header])
        return ceil((time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp() * 1000)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None     # it is for the worker to refuse


def encode(message: dict[str, Any], tenant: str) -> dict[str, Any]:
    """The fields of `message`: its body as it is, everything else as JSON or text."""
    headers, fields = message.get('headers') or {}, {}
    expires = _ms_of(message, 'expires')
    if expires is not None:
        fields['expires'] = str(expires)     # the scripts look at the first field only
    if due_ms(message) is not None:
        fields['eta'], headers = str(headers['eta']), {**headers, 'eta': None}      # when it is delivered, that is past
    fields.update({
        'tenant': tenant,
        'body': message['body'],
        'headers': _dumps(headers),
        'properties': _dumps({
            name: value for name, value in message['properties'].items() if name not in _NOT_KEPT}),
    })
    for name, usual in _USUAL.items():
        if message.get(name) != usual:
            fields[name] = message.get(name) or ''
    return fields


def decode(delivery: Delivery) -> dict[str, Any]:
    """The message of a delivery, as Kombu's virtual transports pass it on.

    Raises:
        ValueError: the entry is not a message.
    """
    fields = delivery.fields
    try:
        properties, headers = _loads(fields[b'properties']), _loads(fields[b'headers'])
        body = fields[b'body']
    except KeyError as exc:
        raise ValueError(f'field {exc.args[0]!r} is missing') from exc
    except Exception as exc:
        # JSON may name a type, such as a decimal, which raises errors of its own.
        raise ValueError(f'properties or headers: {type(exc).__name__}') from exc
    info = properties.setdefault('delivery_info', {}) if isinstance(properties, dict) else None
    if not isinstance(info, dict) or not isinstance(headers, dict):
        raise ValueError('properties, delivery_info and headers are not JSON objects')
    if 'task' in headers and (not isinstance(headers['task'], str) or isinstance(headers.get('id'), (list, dict))):
        raise ValueError('the name or the id of its task is of a wrong type')
    properties.pop('body_encoding', None)       # the body is as it is
    properties['delivery_tag'] = delivery_tag(delivery.queue, delivery.entry_id)
    if b'redelivered' in fields:
        # AMQP has the mark in the delivery info; Kombu's Redis transport, in the headers too.
        info['redelivered'] = headers['redelivered'] = True
    return {
        'body': body,
        'headers': headers,
        'properties': properties,
        **{name: fields.get(name.encode(), usual.encode()).decode() or None for name, usual in _USUAL.items()},
    }


def object_of(text: Optional[bytes]) -> dict[str, Any]:
    """The JSON object that a field holds; an empty one where it holds none."""
    try:
        value = _loads(text or b'')
    except Exception:
        return {}
    return value if isinstance(value, dict) else {}


def time_of(ms: float) -> datetime:
    """That many ms after the epoch; as late as can be said for what is later."""
    try:
        return datetime.fromtimestamp(ms / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=timezone.utc)


def tracked(delivery: Delivery) -> Optional[Tracked]:
    """The account of a delivery whose start and end the server wants to hear of; None for any other."""
    fields = delivery.fields
    if b'tracked' not in fields:
        return None
    sub_queue, tenant, cost = (
        fields.get(name, b'').decode(errors='replace') for name in (b'sub', b'tenant', b'tracked'))
    return Tracked(delivery.entry_id, sub_queue, tenant, cost)


def enqueued_ms(delivery: Delivery) -> int:
    """When the task was published, or the time that it had been delayed to, in ms of the server's clock."""
    for text in delivery.fields.get(b'due'), delivery.fields.get(b'enqueued'):
        ms = text.partition(b'-')[0] if text else b''
        if ms.isdigit() and len(ms) < 16:
            return int(ms)
    # It went straight to egress; once it is delivered again, it has the field.
    return int(delivery.entry_id.rpartition(':')[2].partition('-')[0])


def delivery_tag(queue: str, entry_id: str) -> str:
    """Names one delivery for good: a redelivery has another entry, so another tag."""
    return f'{queue}/{entry_id}'


def parse_delivery_tag(tag: str) -> tuple[str, str]:
    """Queue and entry id; the queue is '' where the tag is not of a delivery from egress."""
    queue, _, entry_id = tag.rpartition('/')
    return queue, entry_id
