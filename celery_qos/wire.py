"""Commands straight on a connection of redis-py's.

What redis-py does around each command (a connection from the pool, looked at; arguments encoded one by one; retries,
metrics, callbacks) takes half as much processor time as what Celery does around the whole of a publication.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis import VERSION, Redis
from redis.exceptions import ResponseError

__all__ = ('Wire', 'pack')

#: Newer releases want no name of the command, older ones insist on one.
_COMMAND = () if VERSION >= (5, 3) else ('EVALSHA',)


#: Pool to the connection that is kept of it, at most one, and whose process it is of.
_kept: WeakKeyDictionary[Any, list[tuple[Any, int]]] = WeakKeyDictionary()


class Wire:
    """Sends the hot commands of a client, on a connection that is kept out of its pool.

    Whether that is still there, only a command shows: one that is idle for long may be closed by the server.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._kept = _kept.setdefault(client.connection_pool, [])

    def send(self, commands: Sequence[Sequence[Any]], looked_at: bool = False) -> list[Any]:
        """The replies to `commands`, sent in one round trip, as the server gives them; errors of a command are among
        them.

        Arguments:
            looked_at: on a connection of the pool, which looks whether it is still there.

        Raises:
            redis.ConnectionError, redis.TimeoutError: what has become of them is not known.
        """
        connection = self._pool.get_connection(*_COMMAND) if looked_at else self._take()
        try:
            connection.send_packed_command([b''.join(map(pack, commands))])
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            # Replies that nobody read would be taken for those of the next command.
            connection.disconnect()
            self._pool.release(connection)
            raise
        if looked_at or self._kept or self._pool.max_connections < 2:
            self._pool.release(connection)
        else:
            self._kept.append((connection, os.getpid()))
        return replies

    def _take(self) -> Any:
        try:
            connection, pid = self._kept.pop()
        except IndexError:
            pid = None
        # What a forked child finds is its parent's.
        return connection if pid == os.getpid() else self._pool.get_connection(*_COMMAND)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as exc:
        return exc


def pack(command: Sequence[Any]) -> bytes:
    """A command as it goes over the wire; every argument as bytes, or as its text."""
    parts = [b'*%d\r\n' % len(command)]
    for argument in command:
        if type(argument) is not bytes:
            argument = str(argument).encode()
        parts += (b'$%d\r\n' % len(argument), argument, b'\r\n')
    return b''.join(parts)
