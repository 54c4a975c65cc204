"""Messages that Celery's worker cannot take become dead letters, at once or after some tries. By itself it acks some of
them, and ends at others."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.worker import state
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.log import get_logger

from ..codec import parse_delivery_tag

__all__ = ('guard',)

logger = get_logger(__name__)

#: What Celery raises where a message holds something else than it takes for granted.
OF_DATA = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ContentDisallowed, DecodeError)


class Malformed(ValueError):
    """A message lacks what every worker takes for granted."""


def guard(consumer: Any) -> None:
    """Have what a message makes the worker raise, before a pool has its task, end the message and not the worker."""
    create, acks, process = consumer.create_task_handler, consumer.on_decode_error, consumer.controller._process_task

    def passes(exc: Exception) -> bool:
        """It is not the message's fault. Kombu takes a KeyError for a lost connection."""
        return isinstance(exc, (*consumer.connection_errors, MemoryError)) and not isinstance(exc, KeyError)

    def create_task_handler(*args: Any, **kwargs: Any) -> Any:
        handle = create(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            checked = False
            try:
                _check(message)
                checked = True
                handle(message)
            except Exception as exc:
                if passes(exc):
                    raise
                _end(message, exc, blamed=not checked or isinstance(exc, OF_DATA))
        return on_task_received

    def on_decode_error(message: Any, exc: Exception) -> None:
        if parse_delivery_tag(str(message.delivery_tag))[0]:
            _end(message, exc, blamed=True)
        else:
            acks(message, exc)      # a reply or a remote control command

    def process_task(request: Any) -> None:
        """Of prefork, which counts what its children are sent: also called later, when one of them is free."""
        try:
            process(request)
        except Exception as exc:
            if passes(exc):
                raise
            consumer.controller._quick_release()
            _end(request.message, exc, blamed=isinstance(exc, OF_DATA))

    consumer.create_task_handler, consumer.on_decode_error = create_task_handler, on_decode_error
    if getattr(consumer.controller, '_quick_release', None):
        consumer.controller._process_task = process_task


def _check(message: Any) -> None:
    """Raise `Malformed` where a task of protocol 2 has not what every worker takes for granted."""
    headers = message.headers
    if 'task' not in headers:
        return
    if headers.get('id') is None:
        raise Malformed('it has no id')
    limits = headers.get('timelimit')
    if limits and not (isinstance(limits, (list, tuple)) and len(limits) == 2 and all(map(_is_limit, limits))):
        raise Malformed('its timelimit is not a pair of numbers')
    body = message.payload
    if isinstance(body, Mapping):
        if 'args' not in body:
            raise Malformed('its body is an object without args')
    elif not (isinstance(body, (list, tuple)) and len(body) == 3 and isinstance(body[0], (list, tuple))
              and isinstance(body[1], Mapping) and (body[2] is None or isinstance(body[2], Mapping))):
        raise Malformed('its body is not a list of args, kwargs and options')


def _is_limit(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _text_of(exc: Exception) -> str:
    """What is wrong. The texts of others may quote what they could not read, such as a date among the arguments."""
    if isinstance(exc, Malformed):
        return str(exc)
    kind = type(exc).__name__
    if isinstance(exc, ContentDisallowed):
        return ' '.join(f'{kind}: {exc}'.split())[:200]
    if isinstance(exc, DecodeError) and exc.__context__:
        return f'{kind}: {type(exc.__context__).__name__}'
    return kind


def _end(message: Any, exc: Exception, blamed: bool) -> None:
    """Of a message that is not acked or rejected already. The log has nothing of its arguments.

    Arguments:
        blamed: it is sure that the message is at fault, and not a worker that is about to stop.
    """
    text, outcome = _text_of(exc), 'it is in the dead letters' if blamed else 'it is delivered again'
    headers, info = message.headers, message.delivery_info
    queue = info.get('routing_key') if isinstance(info, Mapping) else None
    if message._state == 'REQUEUED':
        outcome = 'it is delivered again'
    elif message.acknowledged:
        outcome = 'it is settled already'
    elif blamed:
        message.channel.qos.bury(message.delivery_tag, f'malformed: {text}')
        message._state = 'REJECTED'
    else:
        # Too often, and it is a dead letter too. What a signal's handler throws in gevent's hub is not its doing.
        counted = not type(exc).__module__.startswith('gevent.')
        message.channel.qos.reject(message.delivery_tag, requeue=True, counted=counted)
        message._state = 'REQUEUED'
    for request in list(state.requests.values()):
        if request.message is message:
            state.task_ready(request)
    logger.error('the worker cannot take the message %.100r of task %.100r, sent to %.100r: %s: %s',
                 headers.get('id'), headers.get('task'), queue, outcome, text)
