"""Hands back what a worker has not started as soon as it is told to stop; what it runs may take hours."""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Optional

from celery.worker import state
from celery.worker.request import Request
from kombu.common import ignore_errors
from kombu.log import get_logger
from redis.exceptions import RedisError

from ..codec import parse_delivery_tag
from ..notices import reason
from ..store import Store
from . import native
from .gate import Gate

__all__ = ('HandBack', 'eta_entries', 'requests_of')

logger = get_logger(__name__)


class HandBack:
    """Takes from Celery's consumer and pool what is sure not to have begun, and has Redis deliver it again.

    What it cannot be sure of stays with the pool, which runs it, or goes back when the channel closes.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._gate = Gate()
        self._gate.guard(consumer.pool)
        self._channel: Any = None

    def attach(self, channel: Any) -> None:
        """The worker reads through `channel` now."""
        self._channel = channel

    def begin(self, stopped: bool = False) -> None:
        """Take nothing any more, and hand back what has not begun.

        A signal's handler calls this in the middle of anything, a task or a command to Redis: it waits for nobody,
        takes only what one atomic step removes from where it waits, and leaves it to a thread to tell Redis.

        Arguments:
            stopped: the event loop has ended, so nothing is on its way to the pool.
        """
        channel = self._channel
        if channel is None:
            return
        first = not channel.reader.closed
        if stopped:
            ignore_errors(self._consumer, channel.reader.recall)
        unstarted = set(channel.reader.close())
        for request in self._take_back(stopped):
            state.task_ready(request)
            # Whoever was about to pass it on, and was interrupted, must not hand it back a second time: before the
            # others, it would go to the read that is still out.
            request.message._state = 'REQUEUED'
            unstarted.add(request.message.delivery_tag)
        # In the order of delivery; what is not there was settled, as a revoked task is.
        tags = [tag for tag in list(channel.lease.held) if tag in unstarted]
        for tag in tags:
            for account in channel.lease.held, channel.lease.runs, channel.qos._delivered:
                account.pop(tag, None)
        poller = channel.poller
        if poller is None:
            # The connection is lost: they go back with the next ack, or when the worker ends.
            for tag in tags:
                channel.member.settler.requeue(*parse_delivery_tag(tag), counted=False)
            return
        # A green pool's loop may just wait for the next event.
        poller.turn_again()
        if first or tags:
            # Connections of its own: where sockets are gevent's, they are of the thread that makes them.
            store = channel.new_store()
            native.start_thread(lambda: _send(store, channel, tags))

    def _take_back(self, stopped: bool) -> Iterator[Any]:
        consumer = self._consumer
        yield from _rate_limited(consumer)
        yield from self._gate.take_back(consumer.pool)
        if getattr(consumer.pool, 'uses_semaphore', False):
            yield from _waiting_for_a_process(consumer)
        if stopped:
            for entry in eta_entries(consumer.timer):
                consumer.timer.cancel(entry)
                yield from requests_of(entry)
            if getattr(consumer.pool, 'uses_semaphore', False):
                # The pool was closed before they reached it.
                yield from [request for request in list(state.requests.values())
                            if request in state.reserved_requests and request not in state.active_requests
                            and request._apply_result is None and not request.acknowledged]


def _send(store: Store, channel: Any, tags: list[str]) -> None:
    entries: dict[str, list[str]] = {}
    for queue, entry_id in map(parse_delivery_tag, tags):
        entries.setdefault(queue, []).append(entry_id)
    acts = [partial(channel.reader.interrupt, store), partial(channel.lease.bring_no_slots, store)]
    acts += [partial(store.requeue, queue, ids, counted=False) for queue, ids in entries.items()]
    refusal: Optional[Exception] = None
    for act in acts:
        try:
            act()
        except (RedisError, OSError) as exc:
            refusal = exc       # it may be of one queue only
    if refusal:
        logger.warning('cannot hand back all of %d tasks that were not started (%s): what is left goes back when the '
                       'worker ends', len(tags), reason(refusal))
    store.client.connection_pool.disconnect()


def eta_entries(timer: Any) -> list[Any]:
    """The timer's entries that would start a task later."""
    return [scheduled.entry for scheduled in list(timer.queue)
            if not getattr(scheduled.entry, 'canceled', False)
            and requests_of(scheduled.entry)]


def requests_of(entry: Any) -> list[Request]:
    """What a timer's entry would start."""
    return [argument for argument in getattr(entry, 'args', None) or () if isinstance(argument, Request)]


def _rate_limited(consumer: Any) -> Iterator[Any]:
    for bucket in list(consumer.task_buckets.values()):
        while bucket:
            try:
                request, _ = bucket.pop()
            except IndexError:
                break
            yield request


def _waiting_for_a_process(consumer: Any) -> Iterator[Any]:
    """What the prefork pool has not sent to a process; what it has, runs there."""
    waiting = getattr(getattr(consumer.controller, 'semaphore', None), '_waiting', None)
    while waiting:
        _, args, _ = waiting.popleft()
        yield args[0]
    unsent = getattr(getattr(consumer.pool, '_pool', None), 'outbound_buffer', None)
    if not unsent:
        return
    requests = {id(request._apply_result()): request for request in list(state.requests.values())
                if request._apply_result is not None}
    left = []
    while unsent:
        job = unsent.popleft()
        request = requests.get(id(job))
        if request is None or job._write_to is not None or job._accepted or job._terminated is not None:
            left.append(job)
        else:
            job.discard()
            yield request
    unsent.extend(left)
