"""Composes the Lua scripts from their files and runs them on the server."""
from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Optional

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from .wire import Wire

__all__ = ('Script', 'WritesRefused', 'WrongType', 'script', 'unavailable', 'complaint')

_LUA = files(__package__) / 'lua'
#: The line by which a Lua file names the pieces it stands on.
_INCLUDE = re.compile(r'^-- include (.+)\n', re.MULTILINE)


class WritesRefused(RedisConnectionError):
    """The server takes no writes now."""


#: Errors of a server that will do again later. Redis before 7 hides the code inside a script's error.
_UNAVAILABLE: dict[str, type[RedisError]] = {
    'READONLY': ReadOnlyError, 'OOM': OutOfMemoryError,
    # Its disk is full, or too few replicas follow it: redis-py has no class for these.
    'MISCONF': WritesRefused, 'NOREPLICAS': WritesRefused}

#: After it, Redis quotes arguments.
_QUOTED = ', with args beginning with:'


class WrongType(ResponseError):
    """A key of the queue was overwritten by hand with something else."""

    def __repr__(self) -> str:
        return f'{type(self).__name__}({str(self)!r})'


class Script:
    """One atomic act on the server.

    Arguments:
        name: the Lua file's name, without ending.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = _compose(_LUA / f'{name}.lua', set())
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Redis, keys: list[str], *args: Any) -> Any:
        """Run the script in one round trip; the first call on a server sends the source as well."""
        try:
            try:
                return client.evalsha(self.sha, len(keys), *keys, *args)
            except NoScriptError:
                return client.eval(self.source, len(keys), *keys, *args)
        except ResponseError as exc:
            raise _named(exc) from None

    def once(self, wire: Wire, keys: list[str], *args: Any) -> Any:
        """As a call, but never sent again by itself, whatever the connection's options are.

        Raises:
            redis.ConnectionError, redis.TimeoutError: it is not known whether it was run.
        """
        reply, = self.batch(wire, [(keys, args)], looked_at=True)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def batch(self, wire: Wire, calls: Sequence[tuple[list[str], Sequence[Any]]], looked_at: bool = False) -> list[Any]:
        """Run the script once for each pair of keys and arguments, all in one round trip.

        Arguments:
            looked_at: as `Wire.send` has it.

        Returns:
            The replies; errors of a call are among them.
        """
        commands = [['EVALSHA', self.sha, len(keys), *keys, *args] for keys, args in calls]
        replies = wire.send(commands, looked_at)
        for i, (keys, args) in enumerate(calls):
            if isinstance(replies[i], NoScriptError):
                replies[i], = wire.send([['EVAL', self.source, len(keys), *keys, *args]], looked_at)
            if isinstance(replies[i], ResponseError):
                replies[i] = _named(replies[i])
        return replies


def _named(exc: ResponseError) -> RedisError:
    """The same error, of a class that says more, and without the arguments of the command: they may be a task's."""
    text, quotes, _ = str(exc).partition(_QUOTED)
    if quotes:
        # Of a server that does not know the command.
        return type(exc)(text)
    if refusal := unavailable(exc):
        return refusal
    return WrongType(text) if 'WRONGTYPE' in text else exc


def unavailable(exc: ResponseError) -> Optional[RedisError]:
    """What to raise instead where the server refuses everybody's writes; None where the error is of the command."""
    text = str(exc)
    for code, kind in _UNAVAILABLE.items():
        if text.startswith(f'{code} ') or f': -{code} ' in text:
            return kind(text)
    return None


def complaint(exc: Exception) -> str:
    """What the server said, without where in which script it was: that is no help."""
    return re.split(r' script: [0-9a-f]{40}|@user_script', str(exc))[0].strip(' :.')


@cache
def script(name: str) -> Script:
    """The script of that name, composed once."""
    return Script(name)


def _compose(path: Any, included: set[str]) -> str:
    def include(match: re.Match[str]) -> str:
        pieces = []
        for piece in match[1].split(', '):
            if piece not in included:
                included.add(piece)
                sources = [_LUA / 'lib' / f'{piece}.lua']
                if piece == 'policies':
                    sources = sorted((_LUA / 'policy').iterdir(), key=lambda file: file.name)
                pieces += [_compose(file, included) for file in sources]
        return ''.join(pieces)

    return _INCLUDE.sub(include, path.read_text(encoding='utf-8'))
