"""The load's way through one transport: a Redis server, a worker and producers of its own."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import time
from typing import Optional

from ..embedded import EmbeddedRedis
from ..store import Store
from .app import QUEUE, make_app
from .errors import DemoError
from .load import Sender
from .producers import Ledger, Producer
from .records import DATABASE, Records
from .waits import Wait, Waits
from .worker import WorkerProcess

__all__ = ('Side', 'TenantState', 'Point')


@dataclass(frozen=True)
class TenantState:
    """Where the tasks of one tenant are."""

    tenant: str
    sent: int
    #: Not with a worker yet.
    waiting: int
    #: With the worker, or on the way to it.
    in_flight: int
    done: int
    waits: Waits


@dataclass(frozen=True)
class Point:
    """One task."""

    tenant: str
    #: Seconds from the start of the load to its publish.
    at: float
    wait: Wait


class Side:
    """One transport under load; a context manager that leaves nothing behind.

    Arguments:
        name: what the tables call it.
        scheme: of the broker URL.
    """

    def __init__(self, name: str, scheme: str, senders: Sequence[Sender]) -> None:
        self.name, self.senders = name, senders
        self._ledger, self._waits = Ledger(), dict[int, float]()
        self._began = 0.0
        self._producers: list[Producer] = []
        with ExitStack() as stack:
            redis = EmbeddedRedis()
            stack.callback(redis.stop)
            redis.start()
            self._store = Store(redis.client()) if scheme == 'qos' else None
            self._records = Records(redis.client(DATABASE))
            self._app = make_app(redis.url(scheme))
            stack.callback(self._app.close)
            self._worker = WorkerProcess(name, redis.url(scheme), redis.socket)
            stack.callback(self._worker.close)
            self._stack = stack.pop_all()

    # -- the load

    def answers(self) -> bool:
        """Whether the worker is there."""
        self._worker.check()
        return bool(self._app.control.ping(timeout=0.3, limit=1))

    def begin(self, seconds: float) -> None:
        """Start sending, for `seconds`."""
        self._began = time()
        self._producers = [Producer(self._app, sender, seconds, self._ledger) for sender in self.senders]
        for producer in self._producers:
            producer.start()

    def end(self) -> None:
        """Wait until the last task is sent."""
        for producer in self._producers:
            producer.join()

    def stop(self) -> None:
        """Have everything end, without waiting for it."""
        for producer in self._producers:
            producer.stop()
        self._worker.stop()

    # -- what is to be seen

    def look(self) -> list[TenantState]:
        """Where the tasks are now, by tenant.

        Raises:
            DemoError: the worker or a producer has failed.
        """
        self._worker.check()
        for producer in self._producers:
            if producer.error:
                raise DemoError(f'cannot send tasks through {self.name}: {producer.error!r}')
        done = self._records.done()
        self._waits.update(self._records.new_waits())
        points = self.points()
        waiting = self._waiting(points)
        return [self._state(sender.tenant, points, done.get(sender.tenant, 0), waiting.get(sender.tenant, 0))
                for sender in self.senders]

    def points(self) -> list[Point]:
        """Every task that was sent, as `look` last saw it."""
        now = time()
        return [Point(sent.tenant, sent.at - self._began, self._wait(number, now - sent.at))
                for number, sent in enumerate(tuple(self._ledger.sent))]

    def _wait(self, number: int, age: float) -> Wait:
        wait: Optional[float] = self._waits.get(number)
        return Wait(age, open=True) if wait is None else Wait(wait)

    def _waiting(self, points: list[Point]) -> dict[str, int]:
        """Waiting tasks by tenant: celery-qos keeps that account; in the stock transport's one list nobody can tell."""
        if self._store:
            return self._store.waiting(QUEUE)
        return Counter(point.tenant for point in points if point.wait.open)

    def _state(self, tenant: str, points: list[Point], done: int, waiting: int) -> TenantState:
        waits = Waits(point.wait for point in points if point.tenant == tenant)
        # The accounts are read one after the other while the worker goes on.
        return TenantState(tenant, len(waits), waiting, max(0, len(waits) - waiting - done), done, waits)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self.end()
        self._stack.close()
