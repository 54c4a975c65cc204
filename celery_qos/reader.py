"""One channel's way from egress to its consumers: asks for as much as has room, and passes it on one by one."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any, Optional

from kombu.log import get_logger
from kombu.utils.objects import cached_property
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .codec import decode, delivery_tag
from .request import stamp
from .store import Delivery, Store
from .wire import pack

if TYPE_CHECKING:
    from .channel import Channel
    from .worker.settler import Batch, Settler

__all__ = ('Reader',)

logger = get_logger(__name__)

#: How long the server holds a read that finds nothing, in ms; it may be 0.1 s late.
BLOCK_MS = 4000
#: Seconds after which a read without reply means that the connection is dead.
READ_OVERDUE = 5.0
#: Seconds that are left to a reply nevertheless, where nobody looked for it when it was due.
SECOND_LOOK = 1.5
#: Seconds of deliveries after which the event loop turns, so that acks go out and remote control is answered.
TURN_SECONDS = 0.01


class Reader:
    """Has at most one read out, on a connection of its own that the poller watches."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: The queues read, next one first.
        self.queues: list[str] = []
        #: Queue to consumer tag to what gets its messages. Kombu has one for a queue, which several channels share.
        self.callbacks: dict[str, dict[str, Callable[[Any], Any]]] = {}
        #: The connection whose read is out; since when, of which queues, and whether it takes or only waits.
        self.pending: Any = None
        self._since = 0.0
        #: Acks that went out on the reader's connection, and whose replies come first.
        self._settling: deque[Batch] = deque()
        #: Acks were taken on this connection, so the server knows the script.
        self._settles = False
        #: Some greenlet is about to send.
        self._sending = False
        #: When it was last looked whether a reply is there, and since when that happens all the time.
        self._looked = self._watched = 0.0
        self._asked: list[str] = []
        self._takes = True
        #: Nothing is taken or passed on any more: the worker stops.
        self.closed = False
        #: Delivered to this channel, not passed on yet.
        self._inbox: deque[Delivery] = deque()
        self._no_ack: set[str] = set()
        #: What the server calls the connection, None where it does not tell; and which server that is.
        self.connection_id: Optional[int] = None
        self.run_id = ''
        #: How often it was taken without waiting: every queue, and every stream of it, comes first in turn.
        self._turns = 0
        #: Queue and number of a stream of its egress to the last entry of it that was seen.
        self._seen: dict[tuple[str, int], str] = {}

    @cached_property
    def client(self) -> Redis:
        """Its attribute `connection`, set by the poller, is the one that reads."""
        return Redis(connection_pool=self._channel.async_pool)

    def add(self, queue: str, no_ack: bool) -> None:
        self._channel.store.share_streams(self._channel.member.store)
        if queue not in self.queues:
            self.queues.append(queue)
        if no_ack:
            self._no_ack.add(queue)

    def remove(self, queue: str) -> None:
        """Read the queue no longer, and hand back what is in the inbox of it."""
        self.queues.remove(queue)
        self.callbacks.pop(queue, None)
        self._no_ack.discard(queue)
        for stream in [stream for stream in self._seen if stream[0] == queue]:
            del self._seen[stream]
        if queue in self._asked and not self.closed:
            self.recall()
        for delivery in [delivery for delivery in self._inbox if delivery.queue == queue]:
            self._inbox.remove(delivery)
            self._channel.requeue(delivery_tag(queue, delivery.entry_id), counted=False)

    def recall(self) -> None:
        """Have the read that is out answered now: what it takes later, perhaps nobody would look at for long."""
        if self.pending is None or not self._takes:
            return
        if self.connection_id is not None:
            self._channel.store.unblock(self.connection_id)
        while self.pending is not None:
            if not self.pending.can_read(timeout=READ_OVERDUE):
                self._drop(f'no reply to a read for {READ_OVERDUE:g} s')
            self._take_replies()

    def identify(self) -> None:
        """Ask the server for the number of the connection, which was just opened."""
        self.client.connection.send_command('CLIENT', 'ID')
        try:
            self.connection_id = int(self.client.connection.read_response())
        except ResponseError:
            self.connection_id = None      # the user has no right to ask
        self.run_id = self._channel.store.run_id()

    def abandon(self) -> None:
        """Forget everything; what was delivered stays with the channel's lease."""
        self.queues.clear()
        self._inbox.clear()
        self.forget_replies()

    def forget(self, connection: Any) -> None:
        """`connection` was closed."""
        if 'client' in self.__dict__ and self.client.connection is connection:
            self.forget_replies()

    def forget_replies(self) -> None:
        """None will come any more."""
        self.pending, self._settles = None, False
        while self._settling:
            self._settler.take_back(self._settling.pop())

    def close(self) -> list[str]:
        """Pass nothing on any more; returns the delivery tags of what is left in the inbox. A signal may call this."""
        self.closed = True
        tags = []
        while self._inbox:
            delivery = self._inbox.popleft()
            tags.append(delivery_tag(delivery.queue, delivery.entry_id))
        return tags

    def interrupt(self, store: Store) -> None:
        """Have a read that is out end, so that it takes nothing more. Another thread has a store of its own."""
        if self.pending is not None and self.connection_id is not None:
            store.unblock(self.connection_id)

    def disconnect(self) -> None:
        if 'client' in self.__dict__ and self.client.connection is not None:
            self.client.connection.disconnect()
        self.forget_replies()

    @property
    def waiting(self) -> int:
        """How many tasks are not passed on yet."""
        return len(self._inbox)

    @property
    def _settler(self) -> Settler:
        return self._channel.member.settler

    @property
    def _streams(self) -> list[tuple[str, int]]:
        """Queue and number of every stream that is read."""
        return [(queue, number) for queue in self.queues for number in range(self._channel.store.streams(queue))]

    def begin_turn(self) -> None:
        """In the event loop, before it polls."""
        if self.queues and self._channel.lease.lost:
            self._channel.lease.lost = False
            self._channel.redeclare(self.queues)
        self.exchange()
        if self._deliver():
            # A solo pool has run them, and the loop is about to wait.
            self.exchange()
            if self._inbox:
                self._channel.connection.cycle.turn_again()

    def exchange(self) -> None:
        """Send the acks that are due, and ask for as many tasks as have room then.

        Both in one write, and nobody waits for the reply: the server dispatches while the worker runs what it has left.
        """
        channel = self._channel
        if not channel.consumes:
            return
        self._watch()
        held = channel.held_for
        if held is not None:
            self._channel.connection.cycle.look_in(held)
        if held is None and len(self._settler) and (self.pending is not None or self._settling):
            # What is gathered goes with the next read, unless the one that is out still waits for tasks.
            if self.client.connection.can_read(timeout=0):
                self._take_replies()
            if self.pending is not None and not self._settling or self._settler.since + TURN_SECONDS < monotonic():
                channel.flush()
        if self.pending is not None or self._settling or self._sending:
            return
        room = self._room
        if held is not None:
            room -= len(self._settler)      # of those the server does not know yet
        # A read by itself waits until it brings as much as is left; with acks it costs next to nothing.
        least = 0 if held is None and len(self._settler) else len(self._inbox)
        wanted = room > least and self.queues and not self.closed
        if wanted and room >= len(self._streams):
            self._send(room, held is None)
        if held is None:
            channel.flush()     # what cannot go with a read
        if wanted and room < len(self._streams) and not self._inbox:
            self._refill(room)

    def settle(self) -> None:
        """As `exchange`, of acks only, by a pool's greenlet while the one that drains waits for room in the pool.

        That may take hours, and nobody reads the replies meanwhile.
        """
        room = self._room
        if self._sending or self._settling:
            self._channel.connection.cycle.look_in(TURN_SECONDS)
        elif self._settles and self.pending is None and room >= len(self._streams) > 0 and not self.closed:
            # The greenlet that drains finds out what is wrong with a connection.
            with suppress(*self._channel.connection_errors):
                self._send(room, True)
        else:
            self._channel.flush()

    @property
    def _room(self) -> int:
        return self._channel.qos.room - len(self._inbox)

    def _send(self, room: int, acks: bool) -> None:
        """Send the acks that were gathered, if they shall go, and a read."""
        self._sending = True
        try:
            self._channel.connection.cycle.register_reader(self._channel)
            self._read(room, self._settler.hand_out() if acks else [])
        finally:
            self._sending = False

    def _refill(self, room: int) -> None:
        """With less room than streams, take without waiting: a read's COUNT would hold for each stream alone."""
        self.queues.append(self.queues.pop(0))
        self._turns += 1
        turn = self._turns // len(self.queues)
        try:
            taken = self._channel.store.take(self.queues, self._channel.lease.consumer, room, turn)
        except ResponseError as exc:
            self._on_refusal(exc)
            return
        self._accept(taken)
        if len(taken) < room:
            self._send(room - len(taken), False)

    def _watch(self) -> None:
        """Raise where a reply is overdue."""
        now = monotonic()
        if now - self._looked > READ_OVERDUE / 2:
            # Nobody polled meanwhile (a solo pool ran a task, a program did other things): the reply may have come.
            self._watched = now
        self._looked = now
        if ((self.pending is not None or self._settling)
                and now - self._since > READ_OVERDUE and now - self._watched > SECOND_LOOK):
            self._drop(f'no reply to a read for {READ_OVERDUE:g} s')

    def _read(self, room: int, batches: list[Batch]) -> None:
        """Send the acks of `batches`, and the read that brings `room` tasks, or waits for the first."""
        self._settling.extend(batches)
        try:
            self._asked = list(self.queues)
            streams = self._streams
            self._takes = room >= len(streams)
            if self._takes:
                command = self._channel.store.read_command(
                    self._asked, self._channel.lease.consumer, room // len(streams), BLOCK_MS)
            else:
                seen = {stream: self._seen.get(stream, '0') for stream in streams}
                command = self._channel.store.wait_command(seen, BLOCK_MS)
            self.pending, self._since = self.client.connection, monotonic()
            self.pending.send_packed_command([b''.join(map(pack, [*(batch.command for batch in batches), command]))])
        except BaseException:
            self.forget_replies()
            raise

    def on_readable(self) -> bool:
        """A reply is there. The event loop takes all of it; a synchronous drain, one delivery a call."""
        self._take_replies()
        # Whoever gets the next task may run it here, or wait for room in a green pool: no ack waits for that.
        self.exchange()
        if not self._channel.connection.cycle.drains:
            self._deliver()
        elif not self.deliver_one():
            raise Empty()
        return True

    def _take_replies(self) -> None:
        """Those that are there: of acks, and of the read that is out."""
        connection = self.client.connection
        if self.pending is None and not self._settling:
            # Nothing was asked, so what is readable is the end of the connection.
            self._drop('closed by the server')
        refused = False
        try:
            while self._settling:
                try:
                    connection.read_response()
                    self._settler.sent(self._settling.popleft())
                    self._settles = True
                except ResponseError:
                    self._settler.take_back(self._settling.popleft())
                    self._settles, refused = False, True
                if not connection.can_read(timeout=0):
                    break
            else:
                if self.pending is not None:
                    self._take_reply(connection)
        except self._channel.connection_errors:
            connection.disconnect()
            self.forget_replies()
            raise
        if refused:
            # It does not know the script, or says why not.
            self._channel.flush()

    def _take_reply(self, connection: Any) -> None:
        """Put the reply of the read that is out into the inbox."""
        asked, takes = self._asked, self._takes
        try:
            reply = connection.read_response()
            refusal = None
        except ResponseError as exc:
            refusal = exc
        finally:
            # Not before: other greenlets run while the rest of a long reply comes.
            self.pending = None
        if refusal:
            self._on_refusal(refusal)
            return
        deliveries = self._channel.store.parse_read(asked, reply)
        if takes:
            self._accept(deliveries)
        for delivery in deliveries:
            self._seen[delivery.queue, delivery.stream] = delivery.entry_id

    def _accept(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._channel.lease.held[delivery_tag(delivery.queue, delivery.entry_id)] = None
        self._inbox.extend(deliveries)

    def _drop(self, reason: str) -> None:
        self.disconnect()
        self.pending = None
        raise RedisConnectionError(f'the connection that reads tasks: {reason}')

    def _on_refusal(self, exc: ResponseError) -> None:
        """The server refused a read: the group is gone (deleted by hand, or the data lost), or it cannot serve now."""
        text = str(exc)
        if not text.startswith(('NOGROUP', 'UNBLOCKED')) or 'instance state changed' in text:
            self._channel.store.note_refusal()
            self._drop(text)
        logger.warning('the consumer group was deleted (%s): made anew', exc)
        self._channel.redeclare(self.queues)
        self._channel.update_slots(self.queues)

    def _deliver(self) -> bool:
        """In the event loop: pass on what is there, but let the loop turn between tasks that a solo pool runs here.

        Returns:
            Whether anything was passed on.
        """
        end = monotonic() + TURN_SECONDS
        if not self.deliver_one():
            return False
        while self._inbox:
            if monotonic() > end:
                # The next one may take as long: no ack waits for it.
                self._settler.since = 0.0
                self._channel.connection.cycle.turn_again()
                break
            if self.pending is None and not self._settling and len(self._settler):
                self.exchange()
            if not self.deliver_one():
                break
        return True

    def deliver_one(self) -> bool:
        """Pass the oldest delivery of the inbox on; False where there is none, or no room as the limit went down."""
        while self._inbox and (self.closed or self._channel.qos.can_consume()):
            try:
                delivery = self._inbox.popleft()
            except IndexError:
                return False    # a signal came in between, and closed it
            tag = delivery_tag(delivery.queue, delivery.entry_id)
            if delivery.queue not in self.queues or self.closed:
                self._channel.requeue(tag, counted=False)
            elif (raw := self.decode(delivery)) is not None:
                if delivery.queue in self._no_ack:
                    self._channel.settle(tag)
                next(reversed(self.callbacks[delivery.queue].values()))(raw)
                return True
        return False

    def decode(self, delivery: Delivery) -> Optional[dict[str, Any]]:
        """The message of a delivery; None where it is none: then it is a dead letter."""
        tag = delivery_tag(delivery.queue, delivery.entry_id)
        self._channel.track(delivery, tag)
        try:
            raw = self._channel.lease.held[tag] = decode(delivery)
        except ValueError as exc:
            logger.error('queue %r: entry %s is not a message, it is in the dead letters: %s',
                         delivery.queue, delivery.entry_id, exc)
            self._channel.bury(tag, f'malformed: {exc}')
            return None
        stamp(raw, delivery, self._channel.member.waits.note(delivery))
        return raw
