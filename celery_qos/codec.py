"""A Kombu message as the fields of a stream entry, readable in redis-cli, and back."""
from __future__ import annotations

from typing import Any, Optional

from kombu.utils.json import dumps, loads

from .store import Delivery, Tracked

__all__ = ('encode', 'decode', 'tracked', 'delivery_tag', 'parse_delivery_tag')


def encode(message: dict[str, Any], tenant: str) -> dict[str, Any]:
    """The fields of `message`: its body as it is, everything else as JSON or text."""
    fields = {
        'tenant': tenant,
        'body': message['body'],
        'headers': dumps(message.get('headers') or {}),
        'properties': dumps(message['properties']),
    }
    for name in ('content-type', 'content-encoding'):
        if message.get(name):
            fields[name] = message[name]
    return fields


def decode(delivery: Delivery) -> dict[str, Any]:
    """The message of a delivery, as Kombu's virtual transports pass it on.

    Raises:
        ValueError: the entry is not a message.
    """
    fields = delivery.fields
    try:
        properties, headers = loads(fields[b'properties'].decode()), loads(fields[b'headers'].decode())
        body = fields[b'body']
    except KeyError as exc:
        raise ValueError(f'field {exc.args[0]!r} is missing') from exc
    except (TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f'properties or headers: {exc!r}') from exc
    info = properties.setdefault('delivery_info', {}) if isinstance(properties, dict) else None
    if not isinstance(info, dict) or not isinstance(headers, dict):
        raise ValueError('properties, delivery_info and headers are not JSON objects')
    properties['delivery_tag'] = delivery_tag(delivery.queue, delivery.entry_id)
    if b'redelivered' in fields:
        # AMQP has the mark in the delivery info; Kombu's Redis transport, in the headers too.
        info['redelivered'] = headers['redelivered'] = True
    return {
        'body': body,
        'headers': headers,
        'properties': properties,
        'content-type': fields.get(b'content-type', b'').decode() or None,
        'content-encoding': fields.get(b'content-encoding', b'').decode() or None,
    }


def tracked(delivery: Delivery) -> Optional[Tracked]:
    """The account of a delivery whose start and end the server wants to hear of; None for any other."""
    fields = delivery.fields
    if b'tracked' not in fields:
        return None
    sub_queue, tenant, cost = (
        fields.get(name, b'').decode(errors='replace') for name in (b'sub', b'tenant', b'tracked'))
    return Tracked(delivery.entry_id, sub_queue, tenant, cost)


def delivery_tag(queue: str, entry_id: str) -> str:
    """Names one delivery for good: a redelivery has another entry, so another tag."""
    return f'{queue}/{entry_id}'


def parse_delivery_tag(tag: str) -> tuple[str, str]:
    """Queue and entry id; the queue is '' where the tag is not of a delivery from egress."""
    queue, _, entry_id = tag.rpartition('/')
    return queue, entry_id
