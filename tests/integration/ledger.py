"""What the tasks of `tests.integration.apps.ledger` wrote down, and the way to send them from a test."""
from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_qos import keys
from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .workers import Worker


class Ledger:
    """Sends tasks to a queue of `server` and reads what became of them.

    Arguments:
        conf: settings of the workers' app and of the publishing one.
        scheme: of the broker's URL; ``redis`` for the stock transport.
        book: the server that keeps the ledger, where `server` is to fail.
        url: of the broker, where it is not simply that of `server`.
    """

    def __init__(self, server: Any, conf: dict[str, Any] | None = None, scheme: str = 'qos',
                 book: EmbeddedRedis | None = None, url: str = '') -> None:
        self.server, self.conf = server, conf or {}
        self.redis = server.client()
        self._socket = (book or server).socket
        self._book = (book or server).client(db=2)
        self._url = url or server.url(scheme)
        self.app = Celery('publisher', broker=self._url, set_as_current=False)
        self.app.conf.update(self.conf)

    def worker(self, pool: str = 'prefork', concurrency: int = 2, options: tuple[str, ...] = (),
               **kwargs: Any) -> Worker:
        return Worker(self._url, pool, concurrency, 'tests.integration.apps.ledger', options,
                      env={'QOS_TEST_LEDGER': self._socket, 'QOS_TEST_CONF': json.dumps(self.conf)}, **kwargs)

    def send(self, tenant: str, mark: str = '', seconds: float = 0.0, task: str = 'early', **options: Any) -> None:
        self.app.send_task(f'tests.integration.apps.ledger.{task}', (tenant, mark, seconds), tenant=tenant, **options)

    def let_end(self, *marks: str) -> None:
        """The tasks `held_early` and `held_late` of these marks."""
        for mark in marks:
            self._book.set(f'go:{mark}', 1)

    def tell(self, command: str, *args: Any, **options: Any) -> Any:
        """Call this method of `app.control` until a worker answers: one that has just started is deaf for a moment.

        Kombu's pools last for the process: another test may have cut off the connection that comes from there.
        """
        def told():
            with suppress(RedisConnectionError):
                return getattr(self.app.control, command)(*args, reply=True, limit=1, **options)

        return until(told)

    @contextmanager
    def publishing(self):
        """Many sends, one producer."""
        with self.app.producer_pool.acquire(block=True) as producer:
            yield lambda *args, **kwargs: self.send(*args, producer=producer, **kwargs)

    @property
    def events(self) -> list[dict[str, Any]]:
        # A write whose reply was lost is made again, as it was; a second run of a task has a time of its own.
        return [json.loads(line) for line in dict.fromkeys(self._book.lrange('ledger', 0, -1))]

    def marks(self, event: str) -> list[str]:
        """The marks of the tasks with that event, in its order."""
        return [each['mark'] for each in self.events if each['event'] == event]

    def until(self, event: str, count: int, timeout: float = 30.0) -> list[str]:
        """The marks, once there are `count` of them."""
        until(lambda: self._book.llen('ledger') >= count and len(self.marks(event)) >= count, timeout,
              f'{count} of {event}; so far {Counter(each["event"] for each in self.events)}')
        return self.marks(event)

    def stray_keys(self, queue: str = 'celery') -> list[str]:
        """Keys of the queue that an idle one must not have; what remembers publications, and waits, expires."""
        ns = keys.namespace(queue)
        kept = keys.settings(ns), keys.published(ns, 0), keys.published(ns, 1)
        found = [key.decode() for key in self.redis.scan_iter(f'{ns}:*')]
        return sorted(key for key in found if key not in kept and not key.startswith(keys.waits(ns, '')))

    def until_idle(self, queue: str = 'celery') -> None:
        """Until nothing waits and nothing is in flight."""
        ns = keys.namespace(queue)

        def in_egress():
            return sum(self.redis.xlen(stream) for stream in self.redis.scan_iter(f'{keys.egress(ns)}*'))

        until(lambda: not self.redis.exists(keys.waiting(ns)) and not in_egress(), 30,
              f'{self.stray_keys(queue)}, egress {in_egress()}')
