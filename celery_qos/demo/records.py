"""What the worker notes in Redis for the demo to read."""
from __future__ import annotations

from typing import Any

from redis import Redis

__all__ = ('Records', 'DATABASE')

#: Number of the Redis database, which the broker does not use.
DATABASE = 1
_STARTED, _FINISHED = 'started', 'finished'


class Records:
    """Tasks that were started, with their waits, and how many were finished.

    Arguments:
        client: a client of `DATABASE`.
    """

    def __init__(self, client: Redis) -> None:
        self._client: Any = client
        self._read = 0

    def started(self, number: int, wait: float) -> None:
        """Task `number` starts, `wait` seconds after it was published."""
        self._client.rpush(_STARTED, f'{number} {wait!r}')

    def finished(self, tenant: str) -> None:
        self._client.hincrby(_FINISHED, tenant, 1)

    def new_waits(self) -> dict[int, float]:
        """Number and wait of the tasks that started since the last call."""
        rows = [row.split() for row in self._client.lrange(_STARTED, self._read, -1)]
        self._read += len(rows)
        return {int(number): float(wait) for number, wait in rows}

    def done(self) -> dict[str, int]:
        """Finished tasks by tenant."""
        return {tenant.decode(): int(count) for tenant, count in self._client.hgetall(_FINISHED).items()}
