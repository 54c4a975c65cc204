"""A channel: publishes through enqueue, reads egress, and settles in batches.

Tasks travel through egress; fanout (events, remote control) and Kombu's own reply queues stay what they are in
`kombu.transport.redis`.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Optional

from kombu.log import get_logger
from kombu.transport import redis as kombu_redis
from kombu.utils.objects import cached_property
from redis import ConnectionPool, Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from .address import TLSConnection
from .channel_qos import QoS
from .codec import delivery_tag, parse_delivery_tag, tracked
from .declared import declare
from .poller import READER, Poller
from .publisher import Publisher
from .reader import TURN_SECONDS, Reader
from .reply_queues import ReplyQueues
from .scripts import unavailable
from .store import Delivery, Store
from .worker.lease import Lease, keep_nothing
from .worker.member import Member, member_of
from .worker.runs import Run

if TYPE_CHECKING:
    from .transport import Transport
    from .worker.discarded import Discarded

__all__ = ('Channel',)

logger = get_logger(__name__)

#: Seconds that one command may take where `socket_timeout` is not set.
COMMAND_TIMEOUT = 5.0
#: What redis-py takes for no limit.
UNLIMITED_CONNECTIONS = 2 ** 31
#: How long an ack waits at most for others to go with it: as long as a turn of the loop may take anyway.
HOLD_SECONDS = TURN_SECONDS


class Channel(kombu_redis.Channel):
    """Translates between Kombu's channels and the store."""

    QoS: Any = QoS
    #: Bodies travel as they are; only what goes through Kombu's own lists and fanout is encoded.
    body_encoding: Any = None
    #: The kind of codec Kombu's own paths use.
    _own_body_encoding = 'base64'
    connection_class_ssl = TLSConnection
    #: Batches of `kombu.Connection.batch_publish` pipeline list commands.
    supports_batch_publish = False

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        self.config = connection.config
        self.current_tenant = connection.config.resolver
        self.reader = Reader(self)
        self.publisher = Publisher(self)
        self.reply_queues = ReplyQueues(self)
        #: Bindings that Redis had no memory for; and when they are tried again.
        self._unbound: set[tuple[str, str, str, str]] = set()
        self._bind_at = 0.0
        self._lease: Optional[Lease] = None
        # Where greenlets get the first task together, one of them joins; a signal's handler may come in between.
        self._joining = threading.RLock()
        #: Where a Celery worker consumes: passes tasks on of which it is to be told that they will not run.
        self.discarded: Optional[Discarded] = None
        super().__init__(connection, **kwargs)
        self.handlers[READER] = self.reader.on_readable
        connection.check_server(self.store)

    # -- connections

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params = super()._connparams(asynchronous)
        # A RESP3 push would make the reader's socket readable with nothing to read.
        params['protocol'] = 2
        if params.get('socket_timeout') is None:
            # A connection whose other end is gone, and never said so, would be waited for for good.
            params['socket_timeout'] = COMMAND_TIMEOUT
        return params

    @property
    def poller(self) -> Optional[Poller]:
        """What polls the connections; None once they are lost or closed."""
        connection = self.connection
        return connection.cycle if connection else None

    @cached_property
    def store(self) -> Store:
        """For commands of the calling thread."""
        return Store(Redis(connection_pool=self.pool), self.global_keyprefix)

    @cached_property
    def member(self) -> Member:
        """This process as a consumer of the channel's database; it outlives the channel."""
        return member_of(self.store.identity, self.new_store, self.config)

    @property
    def lease(self) -> Lease:
        """The lease of this channel, which begins with the first delivery it may get."""
        if self._lease is None:
            with self._joining:
                if self._lease is None:
                    self._lease = self.member.join()
        return self._lease

    def join(self, keep: Callable[[Any], bool]) -> Lease:
        """Begin the lease with one that outlasts a lost connection, for the delivery tags of which `keep` is true."""
        with self._joining:
            if self._lease is None:
                self._lease = self.member.join(keep)
            self._lease.keep = keep
            return self._lease

    def new_store(self) -> Store:
        """For commands of another thread."""
        pool: ConnectionPool = self._get_pool()
        # Every channel of the process may be in a command at a time.
        pool.max_connections = UNLIMITED_CONNECTIONS
        return Store(Redis(connection_pool=pool), self.global_keyprefix)

    def _on_connection_disconnect(self, connection: Any) -> None:
        self.reader.forget(connection)
        if self.poller:
            self.poller.after_fork()
        super()._on_connection_disconnect(connection)

    # -- publishing

    def _inplace_augment_message(self, message: dict, exchange: str, routing_key: str) -> None:
        super()._inplace_augment_message(message, exchange, routing_key)
        message['properties'].pop('body_encoding', None)

    def _put(self, queue: str, message: dict, **kwargs: Any) -> None:
        ttl_ms = None if 'task' in (message.get('headers') or {}) else self.reply_queues.ttl_ms(queue)
        if ttl_ms is None:
            self.keep_declared()
            self.publisher.put(queue, message, self._step_of(message))
        else:
            super()._put(queue, self._with_encoded_body(message), **kwargs)
            self._create_client().pexpire(self._q_for_pri(queue, self._step_of(message)), ttl_ms)

    def _put_fanout(self, exchange: str, message: dict, routing_key: str, **kwargs: Any) -> None:
        super()._put_fanout(exchange, self._with_encoded_body(message), routing_key, **kwargs)

    def _with_encoded_body(self, message: dict) -> dict:
        body, encoding = self.encode_body(message['body'], self._own_body_encoding)
        return {**message, 'body': body, 'properties': {**message['properties'], 'body_encoding': encoding}}

    def _step_of(self, message: dict) -> int:
        return self.priority(self._get_message_priority(message, reverse=False))

    # -- queues

    def _new_queue(self, queue: str, auto_delete: bool = False, **kwargs: Any) -> None:
        super()._new_queue(queue, auto_delete, **kwargs)
        if queue in self._fanout_queues:
            return
        expires = (kwargs.get('arguments') or {}).get('x-expires')
        if kwargs.get('exclusive') or auto_delete and (expires or not kwargs.get('durable')):
            self.reply_queues.add(queue, expires)
        else:
            if expires:
                logger.warning('queue %r: x-expires has no effect, tasks wait until they run', queue)
            self.reply_queues.add_tasks(queue)
            self.declare(queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if queue not in self.reply_queues.unmarked or self.typeof(exchange).type == 'fanout':
            self._bind(exchange, routing_key, pattern, queue)
        if queue in self._fanout_queues and self.reply_queues.forget(queue):
            self.store.unmark_transient(queue)

    def begin_turn(self) -> None:
        """In each turn of a loop, before it polls."""
        self.keep_declared()
        if self.discarded:
            self.discarded.pass_on()

    def _bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except ResponseError as exc:
            if not isinstance(unavailable(exc) or exc, OutOfMemoryError):
                raise
            # Memory is full: a worker that can consume makes room. Nobody looks for the bindings of fanout.
            if queue not in self._fanout_queues:
                self._unbound.add((exchange, routing_key, pattern, queue))

    def _bind_again(self) -> None:
        for binding in list(self._unbound):
            super()._queue_bind(*binding)
            self._unbound.discard(binding)

    def get_table(self, exchange: str) -> list:
        self._bind_again()
        return super().get_table(exchange)

    def redeclare(self, queues: Iterable[str]) -> None:
        """Redis has lost these queues: make them, and what routes to them, anew."""
        for queue in queues:
            self.declare(queue)
            for exchange, routing_key, arguments in list(self.state.queue_bindings(queue)):
                self._queue_bind(exchange, *self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments))

    def keep_declared(self) -> None:
        """What this channel declared lasts for as long as it polls or publishes."""
        if self._unbound and monotonic() > self._bind_at:
            self._bind_at = monotonic() + 1
            with suppress(ResponseError):
                self._bind_again()
        self.reply_queues.keep()

    def declare(self, queue: str) -> None:
        declare(self.store, queue, self.config)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return queue in self.reply_queues or self.store.size(queue) is not None

    def _size(self, queue: str) -> int:
        if queue in self.reply_queues:
            # Redis 6.2 refuses every transaction where memory is full.
            with self._create_client().pipeline(transaction=False) as pipe:
                for step in self.priority_steps:
                    pipe.llen(self._q_for_pri(queue, step))
                return sum(pipe.execute())
        return self.store.size(queue) or 0

    def _purge(self, queue: str) -> int:
        if queue in self.reply_queues:
            return super()._purge(queue)
        return self.store.purge(queue)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        if if_empty and self._size(queue):
            return
        if self.store.delete(queue, if_unused):
            super().queue_delete(queue, **kwargs)
            self.reply_queues.forget(queue)

    # -- consuming

    @property
    def active_queues(self) -> list[str]:
        """The queues that Kombu's own BRPOP reads."""
        return [queue for queue in super().active_queues if queue not in self.reader.queues]

    @property
    def unlimited_prefetch(self) -> int:
        return min((self.config.of(queue).unlimited_prefetch for queue in self.reader.queues), default=1)

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        if queue in self._fanout_queues or queue in self.reply_queues:
            return super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self.reader.add(queue, no_ack)
        ret = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self.reader.callbacks.setdefault(queue, {})[consumer_tag] = self.connection._callbacks[queue]
        self.update_slots([queue])
        return ret

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        ret = super()._basic_cancel(consumer_tag)
        self.reader.callbacks.get(queue or '', {}).pop(consumer_tag, None)
        if queue in self.reader.queues and queue not in self._active_queues:
            try:
                self.reader.remove(queue)
            finally:
                self.update_slots([queue])
        return ret

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.update_slots(self.reader.queues)

    def update_slots(self, queues: Iterable[str]) -> None:
        """Bring as many slots to each queue as the channel prefetches."""
        for queue in queues:
            slots = 0
            if queue in self.reader.queues and not self.reader.closed:
                slots = self.qos.prefetch_count or self.config.of(queue).unlimited_prefetch
            if self.reader.closed and not slots:
                continue    # who closed it sees to that
            try:
                self.lease.set_slots(queue, slots)
            except (RedisError, OSError):
                # Slots that cannot be given up go when the lease is not renewed any more.
                if slots:
                    raise

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        if queue in self.reply_queues:
            return super().basic_get(queue, no_ack, **kwargs)
        raw = None
        # What Redis refused before still takes its slot.
        self.flush()
        while raw is None:      # what is no message is a dead letter
            delivery = self.lease.get(queue)
            if delivery is None:
                return None
            raw = self.reader.decode(delivery)
        message = self.Message(raw, channel=self)
        tag = delivery_tag(delivery.queue, delivery.entry_id)
        if no_ack:
            self.settle(tag)
        else:
            self.qos.append(message, tag)
        return message

    # -- settling

    def settle(self, delivery_tag: str) -> None:
        """The task is done with; it leaves egress."""
        self._outcome(delivery_tag)

    def requeue(self, delivery_tag: str, counted: bool) -> None:
        """The task goes back into egress; `counted` where this delivery failed."""
        self._outcome(delivery_tag, requeue=True, counted=counted)

    def bury(self, delivery_tag: str, reason: str) -> None:
        """The task goes to the dead letters."""
        self._outcome(delivery_tag, reason=reason)

    def track(self, delivery: Delivery, tag: str) -> None:
        """Begin the account of a delivery, where the server wants one."""
        task = tracked(delivery)
        if task is not None:
            self.lease.runs[tag] = Run(delivery.queue, self.lease.consumer, task, self.member.settler)

    def _outcome(self, tag: str, requeue: bool = False, counted: bool = False, reason: str = '') -> None:
        queue, entry_id = parse_delivery_tag(tag)
        if not queue or self._lease is None:
            return      # a message of Kombu's own lists
        message, run = self._lease.held.get(tag), self._lease.runs.pop(tag, None)
        if requeue:
            self.member.settler.requeue(queue, entry_id, counted)
        elif reason:
            self.member.settler.bury(queue, entry_id, reason)
        elif run is not None:
            run.settle(skipped=message is not None and self._lease.skips(message))
        else:
            self.member.settler.settle(queue, entry_id)
        # Not before: of what is neither held nor to be settled, a reconnect thinks that it was lost on its way.
        self._lease.held.pop(tag, None)
        poller = self.poller
        if self._lease.has_got(queue, entry_id):
            # Another thread may be sending it: a slot that goes first would be missed by the next `basic_get`.
            self.member.settler.flush(wait=True)
            self._lease.leave_slot(queue, entry_id)
            if poller is not None:
                poller.wake()
        else:
            self.flush_soon()

    @property
    def consumes(self) -> bool:
        """There is something to read, or was, or to settle."""
        return self._lease is not None

    @property
    def held_for(self) -> Optional[float]:
        """For how many seconds at most acks wait for more of them; None where there are none, or they are due.

        They wait while the worker has as many tasks left to start, so its slots would not be used any sooner. At a
        prefetch of 8 that is a call for every 5 tasks, and the server fills those slots while the other 3 run.
        """
        lease, poller = self._lease, self.poller
        if lease is None or lease.at_work is None or poller is None or not poller.drives:
            return None
        settler = self.member.settler
        count = len(settler)
        if not count or not settler.only_acks or self.reader.closed:
            return None
        in_hand = self.qos.in_hand + self.reader.waiting
        if count > in_hand or in_hand <= lease.at_work:
            return None
        seconds = settler.since + HOLD_SECONDS - monotonic()
        return seconds if seconds > 0 else None

    def flush_soon(self) -> None:
        """As `flush`, but where a loop polls it is for that to send: a pool's thread must not wait for Redis."""
        poller = self.poller
        if poller is None or not poller.sends:
            self.flush()
            if poller is not None:
                poller.wake()
        elif (seconds := self.held_for) is not None:
            poller.look_in(seconds)
        else:
            poller.send_soon(self)

    def send_held(self) -> None:
        """Send what was held for long enough, by a timer, and see to the rest."""
        if (seconds := self.held_for) is not None:
            self.connection.cycle.look_in(seconds)
        else:
            self.flush()

    def flush(self) -> None:
        """Send the acks and rejects that were gathered."""
        if self._lease is not None:
            self.member.settler.flush()

    # -- the end

    def abandon(self) -> None:
        """The connection is lost, or its parent's: keep what is delivered for those who still work on it."""
        if self._lease is not None:
            self._lease.stale_reader = self.reader.run_id, self.reader.connection_id
            self._lease.active = False
            if self._qos is not None:
                self._qos._delivered.clear()
        self.reader.abandon()
        self._in_poll: Any = None

    def drop_connections(self) -> None:
        """One is lost, so none is trusted any more: what comes is sent on new ones."""
        for pool in self._pool, self._async_pool:
            if pool is not None:
                pool.disconnect()
        if self._lease is not None:
            self.member.drop_connections()

    def close(self) -> None:
        closing = not self.closed
        if self.poller:
            self.poller.after_fork()
        try:
            if closing:
                try:
                    self.reader.interrupt(self.store)
                finally:
                    self.reader.disconnect()
            super().close()
        except self.connection_errors:
            # Redis cannot be told; what there is of the channel in this process goes all the same.
            self.drop_connections()
            self._in_poll = None
            self.auto_delete_queues.clear()
            self._consumers.clear()
            super().close()
            if self.connection:
                self.connection.close_channel(self)
        if closing and self._lease is not None and self._lease.active:
            # What is in the inbox, or on its way to it, goes back with the lease.
            self.reader.abandon()
            self.member.settler.flush(wait=True)
            self._lease.keep = keep_nothing
            self._lease.give_up()
            self._lease.active = False
