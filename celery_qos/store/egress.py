"""Reading egress. The event loop's reader sends and parses by itself."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from redis.exceptions import ResponseError

from .. import keys
from ..scripts import script
from .database import Database
from .replies import Delivery, delivery_of


class Egress(Database):
    def _egress(self, queues: Iterable[str], turn: int = 0) -> list[str]:
        streams = [(queue, number, self.streams(queue)) for queue in queues for number in range(self.streams(queue))]
        return [keys.egress(self.namespace(queue), (turn + number) % count) for queue, number, count in streams]

    def read_command(self, queues: list[str], consumer: str, count: int, block_ms: Optional[int] = None) -> list:
        """Take tasks, at most `count` of each stream of egress; wait for the first of them, unless for None ms."""
        return _read(self._egress(queues), consumer, count, () if block_ms is None else ('BLOCK', block_ms))

    def wait_command(self, seen: Mapping[tuple[str, int], str], block_ms: int) -> list:
        """Wait until a stream has an entry past the one given for its queue and number; takes nothing."""
        streams = [keys.egress(self.namespace(queue), stream) for queue, stream in seen]
        return ['XREAD', 'COUNT', 1, 'BLOCK', block_ms, 'STREAMS', *streams,
                *[entry_id.rpartition(':')[2] for entry_id in seen.values()]]

    def unblock(self, connection_id: int) -> None:
        """Have a blocked read answered at once, with nothing. Where the user may not, it ends by itself, and may take a
        task before.

        Raises:
            redis.ConnectionError, redis.TimeoutError: the server does not answer; that is not tried again.
        """
        self._wire.send([['CLIENT', 'UNBLOCK', connection_id]], looked_at=True)

    def run_id(self) -> str:
        """Tells the server, since it was started, from all others; '' where the user may not ask."""
        try:
            return str(self.client.info('server').get('run_id', ''))
        except ResponseError:
            return ''

    def take(self, queues: list[str], consumer: str, count: int, turn: int = 0) -> list[Delivery]:
        """Deliver at most `count` tasks in all, without waiting; the first queue comes first.

        Arguments:
            turn: says which of a queue's streams comes first.
        """
        streams = self._egress(queues, turn)
        if len(streams) == 1:
            # In a script each entry would be copied twice.
            reply, = self._wire.send([_read(streams, consumer, count)])
            if isinstance(reply, ResponseError):
                raise reply
            if isinstance(reply, dict):
                reply = reply.items()       # RESP3
        else:
            reply = script('take').once(self._wire, streams, keys.GROUP, consumer, count)
        return self.parse_read(queues, reply)

    def parse_read(self, queues: list[str], reply) -> list[Delivery]:
        """The deliveries in a reply to `read_command` or `wait_command`."""
        found = []
        for key, entries in reply or ():
            queue, stream = self._place_of(queues, key)
            prefix = f'{stream}:' if stream else ''
            found += [delivery_of(queue, prefix + entry_id.decode(), fields) for entry_id, fields in entries]
        return found

    def _place_of(self, queues: list[str], key: bytes) -> tuple[str, int]:
        """The queue and the number of the stream of egress that has this key."""
        for queue in queues:
            first = keys.egress(self.namespace(queue)).encode()
            if key == first:
                return queue, 0
            number = key[len(first) + 1:]
            if key.startswith(first + b':') and number.isdigit():
                return queue, int(number)
        raise KeyError(key)


def _read(streams: Sequence[str], consumer: str, count: int, block: Sequence[Any] = ()) -> list:
    return ['XREADGROUP', 'GROUP', keys.GROUP, consumer, 'COUNT', count, *block, 'STREAMS', *streams,
            *['>'] * len(streams)]
