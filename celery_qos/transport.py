"""Kombu's transport: translates between Kombu's channels and the store.

Tasks travel through egress; fanout (events, remote control) and Kombu's own reply queues stay what they are in
`kombu.transport.redis`.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from queue import Empty
from time import monotonic
from typing import Any, Optional
from urllib.parse import quote

from kombu.log import get_logger
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.objects import cached_property
from kombu.utils.url import as_url, maybe_sanitize_url
from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from . import tenant, worker
from .address import TLSConnection, take_address
from .codec import decode, delivery_tag, encode, parse_delivery_tag
from .config import Config
from .poller import READER, Poller
from .store import Delivery, Store
from .worker.lease import Lease
from .worker.member import Member, member_of

__all__ = ('Transport', 'Channel', 'QoS')

tenant.install()
worker.install()

logger = get_logger(__name__)

#: How long the server holds a read that finds nothing, in ms. Below redis-py's default socket timeout of 5 s.
BLOCK_MS = 2000
#: Seconds after which a read without reply means that the connection is dead.
READ_OVERDUE = 10.0
#: Seconds that one command may take where `socket_timeout` is not set.
COMMAND_TIMEOUT = 5.0
#: A reply queue and its messages are kept for its x-expires, but at least this long, in ms.
TRANSIENT_TTL_MS = 3600 * 1000


class QoS(virtual.QoS):
    """What a channel was delivered and has not settled; the group on egress keeps the same account."""

    channel: Channel

    def ack(self, delivery_tag: str) -> None:
        self.channel.settle(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.requeue(delivery_tag, counted=True)
        else:
            self.channel.settle(delivery_tag)
        self._quick_ack(delivery_tag)

    def restore_unacked(self) -> list:
        """Hand back everything; the deliveries do not count as failed."""
        self._flush()
        for tag in self._delivered:
            self.channel.requeue(tag, counted=False)
        self._delivered.clear()
        self.channel.flush()
        return []

    @property
    def room(self) -> int:
        """How many more deliveries fit; 0 where the limit, or the worker, allows none."""
        if not self.can_consume():
            return 0
        if 'can_consume' in self.__dict__:
            # Celery's worker_disable_prefetch replaced it, and asks anew before each task.
            return 1
        limit = self.prefetch_count or self.channel.unlimited_prefetch
        return max(limit - len(self._delivered) + len(self._dirty), 0 if self.prefetch_count else 1)


class Channel(kombu_redis.Channel):
    """A channel that publishes through enqueue, reads egress, and settles in batches."""

    QoS = QoS
    #: Bodies travel as they are; only what goes through Kombu's own lists and fanout is encoded.
    body_encoding = None
    #: The kind of codec Kombu's own paths use.
    _own_body_encoding = 'base64'
    connection_class_ssl = TLSConnection
    #: Batches of `kombu.Connection.batch_publish` pipeline list commands.
    supports_batch_publish = False

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        self.config = connection.config
        #: The connection whose read is out, and since when.
        self.reading: Any = None
        self._read_since = 0.0
        self._read_queues: list[str] = []
        self._inbox: deque[Delivery] = deque()
        self._egress_queues: list[str] = []
        self._no_ack: set[str] = set()
        #: Delivery tags of `basic_get`, each of which brought a slot of its own.
        self._got: set[str] = set()
        #: Queue to the last id of its egress that a wait has seen.
        self._seen: dict[str, str] = {}
        self._kinds: dict[str, Optional[int]] = {}
        self._lease: Optional[Lease] = None
        super().__init__(connection, **kwargs)
        self.handlers[READER] = self._on_readable
        connection.check_server(self.store)

    # -- connections

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params = super()._connparams(asynchronous)
        # A RESP3 push would make the reader's socket readable with nothing to read.
        params['protocol'] = 2
        return params

    @cached_property
    def store(self) -> Store:
        """For commands of the calling thread."""
        return Store(Redis(connection_pool=self.pool), self.global_keyprefix)

    @cached_property
    def reader(self) -> Redis:
        """The connection that waits for egress."""
        return Redis(connection_pool=self.async_pool)

    @cached_property
    def member(self) -> Member:
        """This process as a consumer of the channel's database; it outlives the channel."""
        kwargs = self.pool.connection_kwargs
        identity = (self.global_keyprefix, *(
            str(kwargs.get(name)) for name in ('host', 'port', 'path', 'db', 'username', 'service_name')))
        return member_of(identity, self._new_store, self.config)

    def _join(self) -> Lease:
        """The lease of this channel, which begins with the first delivery it may get."""
        if self._lease is None:
            self._lease = self.member.join()
        return self._lease

    def _new_store(self) -> Store:
        pool: ConnectionPool = self._get_pool()
        if pool.connection_kwargs.get('socket_timeout') is None:
            pool.connection_kwargs['socket_timeout'] = COMMAND_TIMEOUT
        return Store(Redis(connection_pool=pool), self.global_keyprefix)

    def _on_connection_disconnect(self, connection: Any) -> None:
        if self.reading is connection:
            self.reading = None
        if self.connection:
            self.connection.cycle.after_fork()
        super()._on_connection_disconnect(connection)

    # -- publishing

    def _inplace_augment_message(self, message: dict, exchange: str, routing_key: str) -> None:
        super()._inplace_augment_message(message, exchange, routing_key)
        message['properties'].pop('body_encoding', None)

    def _put(self, queue: str, message: dict, **kwargs: Any) -> None:
        ttl_ms = None if 'task' in (message.get('headers') or {}) else self._transient_ttl_ms(queue)
        if ttl_ms is None:
            key = tenant.of_message(message)
            self.store.enqueue(queue, key, self._step_of(message), encode(message, key))
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

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        super()._new_queue(queue, **kwargs)
        if queue in self._fanout_queues:
            return
        expires = (kwargs.get('arguments') or {}).get('x-expires')
        if kwargs.get('exclusive') or kwargs.get('auto_delete') and (expires or not kwargs.get('durable')):
            self._kinds[queue] = max(expires or 0, TRANSIENT_TTL_MS)
            self.store.mark_transient(queue, self._kinds[queue])
        else:
            self._kinds[queue] = None
            self._declare(queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        super()._queue_bind(exchange, routing_key, pattern, queue)
        if queue in self._fanout_queues and self._kinds.pop(queue, None):
            self.store.unmark_transient(queue)

    def _declare(self, queue: str) -> None:
        qos = self.config.of(queue)
        if self.config.explicit:
            self.store.declare(queue, qos.fingerprint, qos.stored)
        else:
            self.store.declare(queue)

    def _transient_ttl_ms(self, queue: str) -> Optional[int]:
        """Kombu's own reply queues are lists; None for every other queue."""
        if queue not in self._kinds:
            if len(self._kinds) > 1000:
                self._kinds.clear()
            self._kinds[queue] = self.store.transient_ttl_ms(queue)
        return self._kinds[queue]

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return self._transient_ttl_ms(queue) is not None or self.store.size(queue) is not None

    def _size(self, queue: str) -> int:
        if self._transient_ttl_ms(queue) is not None:
            return super()._size(queue)
        return self.store.size(queue) or 0

    def _purge(self, queue: str) -> int:
        if self._transient_ttl_ms(queue) is not None:
            return super()._purge(queue)
        return self.store.purge(queue)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        if if_empty and self._size(queue):
            return
        if self.store.delete(queue, if_unused):
            super().queue_delete(queue, **kwargs)
            self._kinds.pop(queue, None)

    # -- consuming

    @property
    def active_queues(self) -> list[str]:
        """The queues that Kombu's own BRPOP reads."""
        return [queue for queue in super().active_queues if queue not in self._egress_queues]

    @property
    def unlimited_prefetch(self) -> int:
        return min((self.config.of(queue).unlimited_prefetch for queue in self._egress_queues), default=1)

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **kwargs: Any) -> Any:
        if queue in self._fanout_queues or self._transient_ttl_ms(queue) is not None:
            return super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue not in self._egress_queues:
            self._egress_queues.append(queue)
        if no_ack:
            self._no_ack.add(queue)
        ret = super().basic_consume(queue, no_ack, *args, **kwargs)
        self._update_slots([queue])
        return ret

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        ret = super()._basic_cancel(consumer_tag)
        if queue in self._egress_queues and queue not in self._active_queues:
            self._egress_queues.remove(queue)
            self._no_ack.discard(queue)
            for delivery in [delivery for delivery in self._inbox if delivery.queue == queue]:
                self._inbox.remove(delivery)
                self.requeue(delivery_tag(queue, delivery.entry_id), counted=False)
            self._update_slots([queue])
        return ret

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self._update_slots(self._egress_queues)

    def _update_slots(self, queues: Iterable[str]) -> None:
        """Bring as many slots to each queue as the channel prefetches; a cancelled queue keeps those of `basic_get`."""
        for queue in queues:
            slots = 0
            if queue in self._egress_queues:
                slots = self.qos.prefetch_count or self.config.of(queue).unlimited_prefetch
            try:
                self._join().set_slots(queue, slots + sum(parse_delivery_tag(tag)[0] == queue for tag in self._got))
            except (RedisError, OSError):
                # Slots that cannot be given up go when the lease is not renewed any more.
                if slots:
                    raise

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        if self._transient_ttl_ms(queue) is not None:
            return super().basic_get(queue, no_ack, **kwargs)
        delivery = self._join().get(queue)
        if delivery is None:
            return None
        tag = delivery_tag(delivery.queue, delivery.entry_id)
        self._got.add(tag)
        raw = self._decode(delivery)
        if raw is None:
            return self.basic_get(queue, no_ack, **kwargs)
        message = self.Message(raw, channel=self)
        if no_ack:
            self.settle(tag)
        else:
            self.qos.append(message, tag)
        return message

    # -- a turn of the loop

    def begin_turn(self) -> None:
        """In the event loop, before it polls."""
        self.flush()
        self.refill()
        while self.deliver_one():
            pass
        self.read()

    def refill(self) -> None:
        """With less room than queues, take without waiting: a read's COUNT would hold for each queue alone."""
        if self._scarce and self.reading is None and not self._inbox and (room := self.qos.room):
            self._egress_queues.append(self._egress_queues.pop(0))
            try:
                self._accept(self.store.take(self._egress_queues, self._join().consumer, room))
            except ResponseError as exc:
                self._on_refusal(exc)

    @property
    def _scarce(self) -> bool:
        return self.qos.room < len(self._egress_queues)

    def read(self) -> None:
        """Have a read out if there is room for what it may bring."""
        if self.reading is not None:
            if monotonic() - self._read_since > READ_OVERDUE:
                self._drop_reader(f'no reply to a read for {READ_OVERDUE:g} s')
            return
        room = self.qos.room
        if not room or not self._egress_queues or self._inbox:
            return
        self.connection.cycle.register_reader(self)
        self._read_queues = list(self._egress_queues)
        if self._scarce:
            command = self.store.wait_command({queue: self._seen.get(queue, '0') for queue in self._read_queues}, BLOCK_MS)
        else:
            command = self.store.read_command(self._read_queues, self._join().consumer,
                                              room // len(self._read_queues), BLOCK_MS)
        self._read_takes = not self._scarce
        self.reading, self._read_since = self.reader.connection, monotonic()
        self.reader.connection.send_command(*command)

    def _on_readable(self) -> bool:
        """A reply is there. The event loop takes all of it; a synchronous drain, one delivery a call."""
        self._take_reply()
        if self.connection.cycle.drains:
            if not self.deliver_one():
                raise Empty()
        else:
            while self.deliver_one():
                pass
        return True

    def _take_reply(self) -> None:
        """Put the reply of the read that is out into the inbox."""
        connection, self.reading = self.reading, None
        if connection is None:
            # Nothing was asked, so what is readable is the end of the connection.
            self._drop_reader('closed by the server')
        try:
            reply = connection.read_response()
        except ResponseError as exc:
            return self._on_refusal(exc)
        except self.connection_errors:
            connection.disconnect()
            raise
        deliveries = self.store.parse_read(self._read_queues, reply)
        if self._read_takes:
            self._accept(deliveries)
        for delivery in deliveries:
            self._seen[delivery.queue] = delivery.entry_id

    def _accept(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._join().held[delivery_tag(delivery.queue, delivery.entry_id)] = None
        self._inbox.extend(deliveries)

    def _drop_reader(self, reason: str) -> None:
        self.reader.connection.disconnect()
        self.reading = None
        raise RedisConnectionError(f'the connection that reads tasks: {reason}')

    def _on_refusal(self, exc: ResponseError) -> None:
        """The server refused a read: the group is gone (deleted by hand, or the data lost), or it cannot serve now."""
        if not str(exc).startswith(('NOGROUP', 'UNBLOCKED')):
            self._drop_reader(str(exc))
        logger.warning('the consumer group was deleted (%s): made anew', exc)
        for queue in self._egress_queues:
            self._declare(queue)
        self._update_slots(self._egress_queues)

    def deliver_one(self) -> bool:
        """Pass the oldest delivery of the inbox on; False where it is empty."""
        while self._inbox:
            delivery = self._inbox.popleft()
            tag = delivery_tag(delivery.queue, delivery.entry_id)
            if delivery.queue not in self._egress_queues:
                self.requeue(tag, counted=False)
            elif (raw := self._decode(delivery)) is not None:
                if delivery.queue in self._no_ack:
                    self.settle(tag)
                self.connection._deliver(raw, delivery.queue)
                return True
        return False

    def _decode(self, delivery: Delivery) -> Optional[dict[str, Any]]:
        """The message of a delivery; None where it is none, which is logged and removed."""
        tag = delivery_tag(delivery.queue, delivery.entry_id)
        try:
            raw = self._join().held[tag] = decode(delivery)
        except ValueError as exc:
            logger.critical('queue %r: entry %s is not a message (%s), it is removed: %r',
                            delivery.queue, delivery.entry_id, exc, delivery.fields)
            self.settle(tag)
            return None
        return raw

    # -- settling

    def settle(self, delivery_tag: str) -> None:
        """The task is done with; it leaves egress."""
        self._outcome(delivery_tag)

    def requeue(self, delivery_tag: str, counted: bool) -> None:
        """The task goes back into egress; `counted` where this delivery failed."""
        self._outcome(delivery_tag, requeue=True, counted=counted)

    def _outcome(self, tag: str, requeue: bool = False, counted: bool = False) -> None:
        queue, entry_id = parse_delivery_tag(tag)
        if not queue or self._lease is None:
            return      # a message of Kombu's own lists
        self._lease.held.pop(tag, None)
        if requeue:
            self.member.settler.requeue(queue, entry_id, counted)
        else:
            self.member.settler.settle(queue, entry_id)
        poller = self.connection.cycle if self.connection else None
        if tag in self._got:
            self._got.remove(tag)
            self.flush()
            self._update_slots([queue])
        elif poller is None or not poller.gathers:
            self.flush()
        if poller is not None:
            poller.wake()

    def flush(self) -> None:
        """Send the acks and rejects that were gathered."""
        if self._lease is not None:
            self.member.settler.flush()

    # -- the end

    def abandon(self) -> None:
        """The connection is lost, or its parent's: keep what is delivered for those who still work on it."""
        if self._lease is not None:
            self._lease.active = False
            self._egress_queues.clear()
            self._inbox.clear()
            if self._qos is not None:
                self._qos._delivered.clear()
        self.reading = self._in_poll = None

    def close(self) -> None:
        closing = not self.closed
        if self.connection:
            self.connection.cycle.after_fork()
        if closing and 'reader' in self.__dict__ and self.reader.connection is not None:
            # A reply that is on its way stays with the consumer, and goes back with its lease.
            self.reader.connection.disconnect()
        super().close()
        if closing and self._lease is not None and self._lease.active:
            self._inbox.clear()
            self.flush()
            self._lease.give_up()
            self._lease.active = False


class Transport(kombu_redis.Transport):
    """Kombu's Redis transport with a stream a tenant."""

    Channel = Channel
    #: Kombu must not take the URL apart before the scheme is looked at: it says whether TLS is asked for.
    can_parse_url = True
    implements = kombu_redis.Transport.implements.extend(batch_publish=False)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        take_address(client)
        self.config = Config.from_data(client.transport_options.get('qos'))
        self._server_checked = False
        super().__init__(client, **kwargs)
        self.cycle = Poller()

    def check_server(self, store: Store) -> None:
        """Once a connection."""
        if not self._server_checked:
            store.check_server()
            self._server_checked = True

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self.cycle.enter_loop(loop, loop.on_tick - before)
        if not hasattr(self.cycle, '_discard_paused_connection'):
            self.cycle._on_connection_disconnect = self.cycle.forget_in(loop)

    def _collect(self, connection: Transport) -> None:
        """Kombu calls this where a connection is lost, instead of the orderly close that gives deliveries back."""
        for channel in list(self.channels):
            channel.abandon()
        self.close_connection(connection)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = '**') -> str:
        client = self.client
        scheme = 'qoss' if client.ssl else 'qos'
        host = client.hostname or 'localhost'
        if '://' in host:
            return f'{scheme}+{host if include_password else maybe_sanitize_url(host, mask)}'
        return as_url(scheme, host, client.port or self.default_port, client.userid, client.password,
                      quote(client.virtual_host or '', safe=''), sanitize=not include_password, mask=mask)
