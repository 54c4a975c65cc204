"""What a loop that sleeps waits for: scripts ring it when something is enqueued that the loop must look at."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Optional

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from . import keys
from .store import Store

__all__ = ('Bell', 'SECONDS')

#: For which the server holds a wait, and by which its reply may be late.
SECONDS, OVERDUE = 10, 5.0


class Bell:
    """The bells of some queues, on a connection of their own.

    The command outlives a wait: an idle worker sends one in `SECONDS`, not one for each thing that it wakes for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        #: What waits for these keys, since when.
        self._client: Any = None
        self._keys: list[bytes] = []
        self._since = 0.0

    def wait(self, queues: Iterable[str], seconds: float,
             until_readable: Optional[Callable[[Any, float], None]] = None) -> Optional[str]:
        """Wait for at most `seconds`.

        Arguments:
            until_readable: waits until a socket is readable, for so many seconds.

        Returns:
            Whose bell rang. None may come early.
        """
        bells = {keys.bell(self._store.namespace(queue)).encode(): queue for queue in queues}
        if self._keys != list(bells):
            self.leave()
            self._client = Redis(connection_pool=self._store.client.connection_pool, single_connection_client=True)
            self._client.connection.send_command('BLPOP', *bells, SECONDS)
            self._keys, self._since = list(bells), monotonic()
        try:
            connection = self._client.connection
            if until_readable is not None and not connection.can_read(timeout=0):
                until_readable(connection._sock, seconds)
            if not connection.can_read(timeout=0 if until_readable else seconds):
                if monotonic() - self._since > SECONDS + OVERDUE:
                    raise RedisConnectionError('no reply to BLPOP')
                return None
            rung = connection.read_response()
        except BaseException as exc:
            self.leave(lost=not isinstance(exc, ResponseError))
            raise
        self.leave(lost=False)
        return bells[rung[0]] if rung else None

    def leave(self, lost: bool = True) -> None:
        """Wait no longer. `lost`: a reply may still come, so the connection is of no use any more."""
        client, self._client, self._keys = self._client, None, []
        if client is not None:
            if lost:
                client.connection.disconnect()
            client.close()
