"""Puts tasks into their queues: one in a round trip, or all of a group."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from celery.canvas import group
from kombu.log import get_logger

from . import tenant
from .codec import due_ms, encode
from .errors import ConfigError, QoSError
from .evaluators import percent_of
from .publication import Publication

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ('Publisher', 'install')

logger = get_logger(__name__)

#: Tasks of a group that are sent at once.
MOST_AT_ONCE = 100


class _Item(NamedTuple):
    publication: Publication
    message: dict[str, Any]


class _Gathered(list):
    """Items that go out together; of the thread that made it."""

    def __init__(self, items: Iterable[_Item] = ()) -> None:
        super().__init__(items)
        self.owner = get_ident()
        #: What keeps one of them out for good, the first time that something did.
        self.refusal: Optional[QoSError] = None


class Publisher:
    """The way of a channel's tasks into the store.

    Arguments:
        channel: of which it has the config, and what the store has to be told anew where Redis lost it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: What is gathered to be sent at once; None where each task is sent by itself.
        self.gathered: Optional[_Gathered] = None

    def put(self, queue: str, message: dict[str, Any], priority: int) -> None:
        """Enqueue a task, or gather it.

        Raises:
            QoSError, redis.RedisError: it was not enqueued.
        """
        item = _Item(self.publication(queue, message, priority), message)
        gathered = self.gathered
        if gathered is not None and gathered.owner == get_ident():
            gathered.append(item)
        else:
            self.enqueue(_Gathered([item]))

    def enqueue(self, items: _Gathered) -> None:
        """Enqueue all of `items`, whatever becomes of some. Those stay in it that may be enqueued by another try.

        Raises:
            redis.RedisError: there are such.
            QoSError: what keeps one of them out for good, where all others are enqueued.
        """
        left: list[_Item] = []
        error: Optional[Exception] = None
        for item, outcome in zip(items, self._channel.store.enqueue_all([item.publication for item in items])):
            failure = self._second_try(item, outcome) if isinstance(outcome, Exception) else None
            if isinstance(failure, QoSError):
                items.refusal = items.refusal or failure
            elif failure is not None:
                left.append(item)
                error = error or failure
        items[:] = left
        if error is not None:
            raise error
        if items.refusal is not None:
            raise items.refusal

    def publication(self, queue: str, message: dict[str, Any], priority: int, own: bool = True) -> Publication:
        """What is enqueued of a message.

        Arguments:
            own: this process publishes it, so that `current_tenant` may say whose it is.

        Raises:
            QoSError: its tenant, or its sub-queue, cannot be one.
        """
        headers, properties = message.get('headers') or {}, message['properties']
        key = tenant.of_message(message, self._channel.current_tenant if own else None)
        sub_queue = tenant.sub_queue_of(message)
        options = self._channel.config.of(queue)
        # A retry was admitted before: refused now, it would be lost.
        retries = headers.get('retries')
        # Kombu publishes the same properties again where a try failed and it may or may not have reached Redis.
        message_id = properties.setdefault('deduplication_id', properties['delivery_tag'])
        return Publication(
            queue, key, priority, encode(message, key), sub_queue,
            percent=percent_of(options.evaluate, message) if options.evaluate and not sub_queue else None,
            exempt=isinstance(retries, int) and retries > 0, message_id=str(message_id),
            remember_seconds=options.deduplication_seconds, task_id=str(headers.get('id') or ''),
            due_ms=due_ms(message))

    def _second_try(self, item: _Item, error: Exception) -> Optional[Exception]:
        """Where the error can be helped. Returns the one that is left."""
        publication, channel = item.publication, self._channel
        queue, sub_queue = publication.queue, publication.sub_queue
        options = channel.config.of(queue)
        if not isinstance(error, ConfigError):
            return error
        if sub_queue in options.names and not channel.store.is_configured(queue):
            channel.declare(queue)      # Redis lost what was declared
        elif publication.exempt and sub_queue:
            logger.warning('queue %r has no sub-queue %r any more: a retry goes to where tasks go that name none',
                           queue, sub_queue)
            percent = percent_of(options.evaluate, item.message) if options.evaluate else None
            publication = publication._replace(sub_queue='', percent=percent)
        else:
            return error
        outcome, = channel.store.enqueue_all([publication])
        return outcome if isinstance(outcome, Exception) else None


class _Batch:
    """Sends what one producer publishes together; a context manager.

    Arguments:
        policy: of `kombu.Connection.ensure`; None for no second try where the connection is lost.
    """

    def __init__(self, producer: Any, policy: Optional[dict[str, Any]]) -> None:
        self._producer, self._policy = producer, policy
        self._items = _Gathered()

    def gather(self) -> None:
        """The producer's channel is another one once a connection was lost."""
        self._producer.channel.publisher.gathered = self._items

    def flush(self) -> None:
        send: Callable[[], None] = self._send
        if self._policy is not None:
            send = self._producer.connection.ensure(self._producer, send, **self._policy)
        try:
            send()
        except BaseException:
            # Whoever published them is told; they are not to follow later.
            self._items.clear()
            raise

    def flush_if_full(self) -> None:
        if len(self._items) >= MOST_AT_ONCE:
            self.flush()
            self.gather()

    def _send(self) -> None:
        self._producer.channel.publisher.enqueue(self._items)

    def __enter__(self) -> _Batch:
        self.gather()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._producer.channel.publisher.gathered = None
        if self._items:
            self.flush()


def install() -> None:
    """Have the tasks of a group published together: one by one, each would wait for its reply."""
    publish = group._apply_tasks
    if hasattr(publish, 'one_by_one'):
        return

    def apply_tasks(self: group, tasks: Any, producer: Any = None, app: Any = None, *args: Any,
                    **options: Any) -> Iterator[Any]:
        app = app or self.app
        with app.producer_or_acquire(producer) as producer, _batch(producer, app, options) as batch:
            for result in publish(self, tasks, producer, app, *args, **options):
                if batch:
                    batch.flush_if_full()
                yield result

    apply_tasks.one_by_one = publish        # type: ignore[attr-defined]
    group._apply_tasks = apply_tasks


@contextmanager
def _batch(producer: Any, app: Any, options: dict[str, Any]) -> Iterator[Optional[_Batch]]:
    """None where another transport publishes, or another group that this one is a part of."""
    publisher = getattr(producer.channel, 'publisher', None)
    if publisher is None or publisher.gathered is not None:
        yield None
        return
    retry = options.get('retry')
    policy = {**app.conf.task_publish_retry_policy, **(options.get('retry_policy') or {})}
    with _Batch(producer, policy if (app.conf.task_publish_retry if retry is None else retry) else None) as batch:
        yield batch
