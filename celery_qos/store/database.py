"""One Redis database, and its server."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Optional

from redis import Redis
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError, ResponseError

from .. import keys
from ..clock import ServerClock
from ..errors import UnsupportedServer
from ..notices import Notices
from ..scripts import WritesRefused, script, unavailable
from ..wire import Wire

#: Version of the layout of the keys; a queue stored with another one is refused.
SCHEMA_VERSION = '3'
#: The oldest Redis that has what the scripts use: HRANDFIELD, and ranges of streams that leave out their first id.
MINIMUM_SERVER = (6, 2)
#: What a script replies where another change of the settings has to be over before.
WAITS = -1
#: Spelled namespaces that are kept.
_MAX_NAMESPACES = 1000

#: Databases whose server refused a write lately, by `Store.identity`.
_refusing: set[tuple] = set()


class Database:
    """Runs scripts; what the parts of a `Store` have in common."""

    def __init__(self, client: Redis, prefix: str = '') -> None:
        self.client = client
        self._wire = Wire(client)
        self.prefix = prefix
        self._namespaces: dict[str, str] = {}
        #: Queue to its number of streams of egress, as the server said last.
        self._streams: dict[str, int] = {}
        #: What leases tell of the server's clock.
        self.clock = ServerClock()
        self._notices = Notices()

    def namespace(self, queue: str) -> str:
        try:
            return self._namespaces[queue]
        except KeyError:
            if len(self._namespaces) > _MAX_NAMESPACES:
                # Every reply queue has a name of its own.
                self._namespaces.clear()
            return self._namespaces.setdefault(queue, keys.namespace(queue, self.prefix))

    @property
    def identity(self) -> tuple:
        """Tells the database, and the prefix, apart from all others."""
        options = self.client.get_connection_kwargs()
        names = 'host', 'port', 'path', 'db', 'username', 'service_name'
        return self.prefix, *(str(options.get(name)) for name in names)

    def run(self, name: str, queue: str, *args):
        return self._run(script(name), self.client, queue, *args)

    def run_once(self, name: str, queue: str, *args):
        """As `run`, by `Script.once`."""
        return self._run(script(name).once, self._wire, queue, *args)

    def _run(self, call: Callable[..., Any], client: Any, queue: str, *args):
        try:
            return call(client, [self.namespace(queue)], *args)
        except (ReadOnlyError, WritesRefused):
            self.note_refusal()
            raise

    def note_refusal(self) -> None:
        """The server refused a write: new connections ask whether it still does, so that who reconnects waits."""
        _refusing.add(self.identity)

    def refusal(self) -> Optional[RedisError]:
        """Why the server takes no writes now, being a replica or for a reason of its own; None where it does."""
        try:
            self.client.delete(f'{self.namespace("")}:probe')
        except ReadOnlyError as exc:
            return exc
        except ResponseError as exc:
            return unavailable(exc)
        return None

    def check_server(self) -> None:
        """Raise `UnsupportedServer` where the server is too old. A user without the right to ask is trusted.

        Raises:
            RedisError: it refused a write lately, being a replica or for a reason of its own, and still does.
        """
        if self.identity in _refusing:
            if refusal := self.refusal():
                raise refusal
            _refusing.discard(self.identity)
        try:
            version = str(self.client.info('server')['redis_version'])
        except NoPermissionError:
            return
        if tuple(int(part) for part in version.split('.')[:2]) < MINIMUM_SERVER:
            needed = '.'.join(map(str, MINIMUM_SERVER))
            raise UnsupportedServer(f'the Redis server is version {version}; celery-qos needs {needed} or newer')

    def _finish(self, queue: str, left: int, rounds: Iterable[Any] = repeat(None)) -> None:
        """Go on with what a call left over, for so many rounds; after that, the sweep does."""
        for _ in rounds:
            if not left:
                break
            left = self.run('fill', queue)

    def streams(self, queue: str) -> int:
        """How many streams the queue's egress has, as far as this store was told, or one that it shares with."""
        return self._streams.get(queue, 1)

    def share_streams(self, other: Database) -> None:
        """Have this store and `other`, of the same database, know what either is told."""
        other._streams.update(self._streams)
        self._streams, self.clock = other._streams, other.clock
