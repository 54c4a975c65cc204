"""A unix socket in front of a Redis server that counts what crosses: round trips, commands, bytes each way.

The server's own statistics count what scripts and transactions run as well, and state its time a second time.
"""
from __future__ import annotations

import hashlib
import os
import select
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, Optional

from redis import Redis
from redis.lock import Lock

from celery_qos.scripts import script

from .brokers import Broker, RedisBroker

__all__ = ('Wire', 'Wired', 'Trips', 'Turn', 'SCRIPTS', 'server_micros')

#: Bytes that are forwarded at a time; what redis-py sends in one call crosses in one piece.
_CHUNK = 1 << 20
#: After these words, a command's name has a second part.
_TWO_WORDS = ('CLIENT', 'SCRIPT', 'CONFIG', 'XGROUP', 'XINFO')


#: The names of celery-qos's.
SCRIPTS = sorted(each.name.removesuffix('.lua') for each in (files('celery_qos') / 'lua').iterdir()
                 if each.name.endswith('.lua'))


class Turn(NamedTuple):
    """What a client sent on one connection before it got a reply: one command, or several that were pipelined.

    A script of celery-qos goes by its own name, in lower case; a command by the server's, in upper case; the script by
    which redis-py releases a lock is UNLOCK.
    """

    commands: tuple[str, ...]

    @property
    def top_level(self) -> tuple[str, ...]:
        """Without those that an EXEC runs."""
        found, inside = [], False
        for name in self.commands:
            if name == 'MULTI':
                inside = True
            if not inside or name in ('MULTI', 'EXEC'):
                found.append(name)
            if name == 'EXEC':
                inside = False
        return tuple(found)


class Trips:
    """What crossed, by kind of turn."""

    def __init__(self) -> None:
        self.turns: Counter[Turn] = Counter()
        #: Bytes to the server, and from it.
        self.sent: Counter[Turn] = Counter()
        self.received: Counter[Turn] = Counter()

    def of(self, concerns: Callable[[Turn], bool]) -> Trips:
        """Those turns alone."""
        found = Trips()
        for all_of, some in zip(self._counters, found._counters):
            some.update({turn: count for turn, count in all_of.items() if concerns(turn)})
        return found

    @property
    def _counters(self) -> tuple[Counter[Turn], ...]:
        return self.turns, self.sent, self.received

    @property
    def top_level(self) -> Counter[str]:
        """Name of a command to how often it was sent, and ran on its own account."""
        found: Counter[str] = Counter()
        for turn, count in self.turns.items():
            for name in turn.top_level:
                found[name] += count
        return found

    def __str__(self) -> str:
        rows = [f'{count:7}x {"+".join(turn.commands)}: {self.sent[turn] / count:.0f} bytes there, '
                f'{self.received[turn] / count:.0f} back' for turn, count in self.turns.most_common()]
        return '\n'.join(rows)


class _Conversation:
    """One connection, from the client's end."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.turn: list[str] = []
        self.sent = self.received = 0
        #: The server has answered since the last command.
        self.answered = True


class Wire:
    """Forwards every connection to the server, in a thread.

    Arguments:
        server: path of the server's unix socket.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix='celery-qos-wire-')
        self.socket = os.path.join(self._folder.name, 'wire.sock')
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen(128)
        #: An end to the other end, to the conversation, and to whether it is the client's.
        self._peers: dict[socket.socket, tuple[socket.socket, _Conversation, bool]] = {}
        self._trips: Optional[Trips] = None
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def url(self, scheme: str, db: int = 0) -> str:
        return f'{scheme}+socket://{self.socket}?virtual_host={db}'

    @contextmanager
    def recording(self) -> Iterator[Trips]:
        """What crosses from now until the end of the block; a turn counts where its first command was sent."""
        trips = Trips()
        with self._lock:
            for _, conversation, _ in self._peers.values():
                self._end_turn(conversation, None)
            self._trips = trips
        try:
            yield trips
        finally:
            with self._lock:
                for _, conversation, is_client in self._peers.values():
                    if is_client:
                        self._end_turn(conversation, trips)
                self._trips = None

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.connect(self.socket)       # wakes the thread
        self._thread.join()
        self._folder.cleanup()

    def _run(self) -> None:
        polled = select.epoll()
        polled.register(self._listener, select.EPOLLIN)
        by_number: dict[int, socket.socket] = {}
        while not self._stopped:
            for number, _ in polled.poll():
                if number == self._listener.fileno():
                    client, server = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
                    try:
                        server.connect(self._server)
                    except OSError:
                        client.close()
                        continue
                    conversation = _Conversation()
                    with self._lock:
                        self._peers[client] = server, conversation, True
                        self._peers[server] = client, conversation, False
                    for end in client, server:
                        by_number[end.fileno()] = end
                        polled.register(end, select.EPOLLIN)
                elif number in by_number and not self._forward(by_number[number]):
                    one = by_number[number]
                    other = self._peers[one][0]
                    for end in one, other:
                        polled.unregister(end)
                        del by_number[end.fileno()]
                        with self._lock:
                            self._peers.pop(end)
                        end.close()
        for end in [self._listener, *self._peers]:
            end.close()
        polled.close()

    def _forward(self, one: socket.socket) -> bool:
        other, conversation, is_client = self._peers[one]
        try:
            data = one.recv(_CHUNK)
            if data:
                # Before it is forwarded: whoever got the answer finds the question counted.
                with self._lock:
                    (self._on_sent if is_client else self._on_received)(conversation, data)
                other.sendall(data)
        except OSError:
            data = b''
        if not data:
            with self._lock:
                self._end_turn(conversation, self._trips)
        return bool(data)

    def _on_sent(self, conversation: _Conversation, data: bytes) -> None:
        if conversation.answered:
            self._end_turn(conversation, self._trips)
            conversation.answered = False
        conversation.sent += len(data)
        conversation.unread += data
        conversation.turn += _take_commands(conversation.unread)

    def _on_received(self, conversation: _Conversation, data: bytes) -> None:
        conversation.received += len(data)
        conversation.answered = True

    @staticmethod
    def _end_turn(conversation: _Conversation, trips: Optional[Trips]) -> None:
        """Book it; of one that began before the recording, and goes on, nothing is booked."""
        if trips is not None and conversation.turn:
            turn = Turn(tuple(conversation.turn))
            trips.turns[turn] += 1
            trips.sent[turn] += conversation.sent
            trips.received[turn] += conversation.received
        conversation.turn = []
        conversation.sent = conversation.received = 0


class Wired(Broker):
    """A broker on Redis whose clients go through a wire; as long as it is entered.

    Arguments:
        socket: path of the server's unix socket.
    """

    def __init__(self, kind: type[RedisBroker], socket: str) -> None:
        super().__init__()
        self.name, self.transport, self.has_tenants = kind.name, kind.transport, kind.has_tenants
        self._scheme, self._server = kind.scheme, socket
        self.wire = Wire(socket)

    @property
    def url(self) -> str:
        return self.wire.url(self._scheme)

    def client(self) -> Redis:
        """Past the wire."""
        return Redis(unix_socket_path=self._server)

    def __enter__(self) -> Wired:
        self.wire.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.wire.__exit__(*exc_info)


def server_micros(client: Redis, trips: Trips) -> float:
    """Microseconds that the server was at work on `trips`; its statistics were reset when they began.

    The time of a script, or of EXEC, is in its own row and in those of the commands that it runs: of a row, so much
    counts as was sent.
    """
    stats: Any = client.info('commandstats')
    sent: Counter[str] = Counter()
    for name, count in trips.top_level.items():
        parts = ('evalsha' if name.islower() or name == 'UNLOCK' else name.lower()).split(' ')
        sent['|'.join(parts) if f'cmdstat_{"|".join(parts)}' in stats else parts[0]] += count
    total = 0.0
    for name, count in sent.items():
        row = stats.get(f'cmdstat_{name}')
        if row:
            total += row['usec'] * min(1.0, count / row['calls'])
    return total


def _take_commands(buffer: bytearray) -> Iterator[str]:
    """Take the names of the commands out of `buffer` that have come in whole."""
    start = 0
    while start < len(buffer):
        words, end = _command(buffer, start)
        if end is None:
            break
        yield _name(words)
        start = end
    del buffer[:start]


def _command(buffer: bytearray, start: int) -> tuple[list[bytes], Optional[int]]:
    """The first two words of a command, and where it ends; None where that has not come yet."""
    line = buffer.find(b'\r\n', start)
    if line < 0:
        return [], None
    words: list[bytes] = []
    at = line + 2
    for _ in range(int(buffer[start + 1:line])):
        line = buffer.find(b'\r\n', at)
        if line < 0:
            return [], None
        begin, size = line + 2, int(buffer[at + 1:line])
        at = begin + size + 2
        if at > len(buffer):
            return [], None
        if len(words) < 2:
            words.append(bytes(buffer[begin:begin + min(size, 64)]))
    return words, at


def _name(words: list[bytes]) -> str:
    name = words[0].decode(errors='replace').upper()
    if name == 'EVALSHA':
        return _scripts().get(words[1].decode(), name)
    if name in _TWO_WORDS and len(words) > 1:
        return f'{name} {words[1].decode(errors="replace").upper()}'
    return name


@cache
def _scripts() -> dict[str, str]:
    lock = hashlib.sha1(Lock.LUA_RELEASE_SCRIPT.encode(), usedforsecurity=False).hexdigest()
    return {lock: 'UNLOCK', **{script(name).sha: name for name in SCRIPTS}}
