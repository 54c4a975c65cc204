"""Kombu's poller of the Redis transport, taught to read egress and to wake up for acks from other threads."""
from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional

from kombu.transport.redis import MultiChannelPoller
from kombu.utils.eventio import ERR, READ, poll

__all__ = ('Poller', 'READER')

#: The kind of connection that waits for egress, as Kombu knows 'BRPOP' and 'LISTEN'.
READER = 'XREADGROUP'
#: Seconds between two turns of an event loop that has nothing to do.
LOOK_INTERVAL = 1.0


class Poller(MultiChannelPoller):
    """Works in the worker's event loop and in a synchronous ``drain_events`` alike."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: Any = None
        self._transport: Any = None
        self._ticks: set[Any] = set()
        self._timer: Any = None
        self._loop_thread: Optional[int] = None
        self._drain_thread: Optional[int] = None
        #: Where a Celery worker polls, until it stops: calls a function in so many seconds.
        self._call_later: Optional[Callable[[float, Callable[[], None]], Any]] = None
        #: A look after held acks is due.
        self._look_due = False
        #: A byte is on its way to the loop.
        self._waking = False
        #: The callbacks of a turn run, after it was decided how long the poll may take; and a drain polls.
        self._in_tick = self._in_poll = False
        #: The thread that polled last: it need not wake itself, and a byte left behind would end its next drain early.
        self._polled_by: Optional[int] = None
        self._poll_alone()

    def _poll_alone(self) -> None:
        self._pid = os.getpid()
        self._woken, self._waker = socket.socketpair()
        for end in self._woken, self._waker:
            end.setblocking(False)
        self.poller.register(self._woken, READ | ERR)

    def after_fork(self) -> None:
        """In a forked child, poll apart from the parent: they share the epoll; what one removes, the other misses."""
        if self._pid == os.getpid():
            return
        for channel in list(self._channels):
            channel.abandon()
        self.poller = poll()
        self._loop = self._loop_thread = self._drain_thread = self._polled_by = self._call_later = None
        for registered in self._chan_to_sock, self._fd_to_chan, getattr(self, '_paused_brpop', {}):
            registered.clear()
        for set_by_loop in '_on_connection_disconnect', '_unregister_from_poll':
            self.__dict__.pop(set_by_loop, None)
        self._poll_alone()

    # -- waking up

    def wake(self) -> None:
        """Make a poll that another thread waits in return now."""
        if self._polled_by not in (None, threading.get_ident()):
            self.turn_again()

    def turn_again(self) -> None:
        """Do not wait in the next poll. A signal's handler may call this."""
        if not self._waking:
            self._waking = True
            with suppress(OSError):     # it is full, so it wakes already; or it was closed with its connection
                self._waker.send(b'\0')

    def _on_wakeup(self) -> None:
        try:
            while len(self._woken.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        # Last: who found it set before counts on the turn that comes now.
        self._waking = False

    @property
    def sends(self) -> bool:
        """What is gathered now is sent by the loop of a Celery worker, or at the end of a drain under way."""
        return self.drives or threading.get_ident() == self._drain_thread

    @property
    def drives(self) -> bool:
        """A Celery worker polls, again and again."""
        return self._call_later is not None

    def drive(self, call_later: Callable[[float, Callable[[], None]], Any]) -> None:
        """A Celery worker polls from now on; its timer calls a function in so many seconds."""
        self._call_later = call_later

    def send_soon(self, channel: Any) -> None:
        """There is something to settle: have a turn that sends it."""
        if self._loop is None and not self._in_poll and self.drives:
            # A green pool: the greenlet that drains waits for room in it, perhaps for hours.
            channel.reader.settle()
        else:
            self.wake()

    def look_in(self, seconds: float) -> None:
        """Look then at the latest whether held acks are to be sent."""
        if self._look_due or self._call_later is None:
            return
        if self._loop is not None and threading.get_ident() != self._loop_thread:
            self.wake()     # the loop's timer is the loop's
            return
        self._look_due = True
        self._call_later(max(seconds, 0.0), self._look)
        if self._in_tick:
            self.turn_again()

    def _look(self) -> None:
        self._look_due = False
        for channel in list(self._channels):
            if self._loop is None:
                channel.send_held()
            elif (seconds := channel.held_for) is not None:
                self.look_in(seconds)

    def enter_loop(self, loop: Any, transport: Any, ticks: set[Any]) -> None:
        """The event loop that this thread runs polls from now on, for `transport`; `ticks` are what it calls for us."""
        self._loop, self._transport, self._ticks = loop, transport, ticks
        self._loop_thread = self._polled_by = threading.get_ident()
        # Where nothing else goes on, and no reply comes, the loop would hardly ever look whether one is overdue.
        self._timer = loop.call_repeatedly(LOOK_INTERVAL, lambda: None)

    def leave_loop(self) -> None:
        self._loop_thread = self._call_later = None

    def close(self) -> None:
        self.after_fork()
        super().close()
        if self._loop is not None:
            # The loop outlives the connection, and what is left in it would be called for a file of the same number.
            self._loop.on_tick.difference_update(self._ticks)
            self._timer.cancel()
            if self._woken.fileno() >= 0:
                self._loop.remove(self._woken)
            self._loop = None
        self._waker.close()
        self._woken.close()

    # -- reading

    def on_poll_init(self, poller: Any) -> None:
        # The base class restores unacked messages of Kombu's own emulation here; egress has none.
        self.poller = poller

    def on_poll_start(self) -> None:
        super().on_poll_start()
        if not self.drains:
            self._in_tick = True
            try:
                for channel in list(self._channels):
                    channel.begin_turn()
                    channel.reader.begin_turn()
            finally:
                self._in_tick = False

    def register_reader(self, channel: Any) -> None:
        """Have the channel's reader connected and polled."""
        client = channel.reader.client
        if not self._client_registered(channel, client, READER):
            channel.reader.forget_replies()
            self._register(channel, client, READER)
            channel.reader.identify()

    def on_readable(self, fileno: int) -> Any:
        if fileno == self._woken.fileno():
            return self._on_wakeup()
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == READER:
            # What is readable was delivered to us: it must be read even where the prefetch limit shrank meanwhile.
            return channel.handlers[READER]()
        return super().on_readable(fileno)

    def handle_event(self, fileno: int, event: int) -> Any:
        self._in_poll = False       # what is delivered now may have to wait for room in a green pool
        if fileno == self._woken.fileno():
            self._on_wakeup()
            return True
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == READER:
            return channel.handlers[READER](), self
        return super().handle_event(fileno, event)

    @property
    def drains(self) -> bool:
        """A synchronous drain is under way, which takes one event."""
        return self._in_protected_read

    def get(self, callback: Any, timeout: Optional[float] = None) -> None:
        """One event of a synchronous drain."""
        outer, self._drain_thread = self._drain_thread, threading.get_ident()
        self._polled_by = self._drain_thread
        try:
            for channel in list(self._channels):
                channel.begin_turn()
                channel.reader.exchange()
            if not any(channel.reader.deliver_one() for channel in list(self._channels)):
                self._in_poll = True
                super().get(callback, timeout)
        finally:
            self._in_poll = False
            self._drain_thread = outer
            if not self.drives:
                for channel in list(self._channels):
                    channel.flush()

    def forget_in(self, loop: Any) -> Any:
        """For Kombu before 5.7, which stops polling every connection where one is closed (kombu#2007)."""
        def forget(connection: Any) -> None:
            for ident in list(self._chan_to_sock):
                channel, client, kind = ident
                if getattr(client, 'connection', None) is connection:
                    del self._chan_to_sock[ident]
                    for fd, registered in list(self._fd_to_chan.items()):
                        if registered == (channel, kind):
                            loop.remove(fd)
                            del self._fd_to_chan[fd]
        return forget

    @property
    def fds(self) -> dict[int, Any]:
        """What to poll; in an event loop, what it does not poll yet: to ask for all in each turn is 4% of prefork."""
        fileno = self._woken.fileno()
        found = dict(super().fds)
        if fileno >= 0:
            found[fileno] = (None, 'WAKE')
        if self._loop is None:
            return found
        readers = self._loop.readers
        return {fd: channel for fd, channel in found.items()
                if fd not in readers or getattr(readers[fd][0], '__self__', None) is not self._transport}
