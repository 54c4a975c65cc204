"""Real runs for the pictures: a Redis server, a worker in a process of its own, tasks that note when they ran."""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from threading import Thread
from time import monotonic, sleep, time
from typing import Any, NamedTuple, Optional

from celery import Celery
from redis import Redis

from celery_qos import QoS
from celery_qos.config import Config
from celery_qos.demo.worker import end_with_parent
from celery_qos.embedded import EmbeddedRedis

__all__ = ('Run', 'Task', 'running')

#: Number of the Redis database for what tasks note; the broker does not use it.
NOTES = 1
#: Seconds that a worker may take to run its tasks.
TIMEOUT = 60.0


class Task(NamedTuple):
    """A task that ran; times in seconds from the start of the first one."""

    row: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Run:
    """An app and its worker, which is not there before `start`.

    Arguments:
        server: a running one.
        qos: None for Celery's stock Redis transport.
        slots: how many tasks the worker runs at a time; it holds no more than these.
    """

    def __init__(self, server: EmbeddedRedis, qos: Optional[QoS], slots: int) -> None:
        self.slots = slots
        self._server = server
        self._options = {'qos': Config.build(qos).as_data()} if qos else {}
        self._url = server.url('qos' if qos else 'redis')
        self.app = make_app(self._url, self._options)
        self._notes: Any = server.client(NOTES)
        self._log = TemporaryFile()  # noqa: SIM115, it lives as long as the worker
        self._worker: Optional[subprocess.Popen] = None

    def send(self, row: str, times: int, milliseconds: float, **options: Any) -> None:
        """Publish tasks of that length.

        Arguments:
            row: where they are drawn.
            options: of `send_task`, such as ``tenant='a'``.
        """
        with self.app.producer_pool.acquire(block=True) as producer:
            for _ in range(times):
                self.app.send_task('work', (row, milliseconds / 1000), producer=producer, **options)

    def start(self) -> None:
        """Start the worker; returns when it has begun with the first task."""
        self._worker = subprocess.Popen(
            [sys.executable, __file__, self._url, self._server.socket, json.dumps(self._options), str(self.slots)],
            stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True)
        self._until(lambda: self._notes.exists('began'))

    @property
    def now(self) -> float:
        """Seconds since the start of the first task."""
        return time() - float(self._notes.get('began'))

    def at(self, seconds: float) -> None:
        """Sleep until so long after the start of the first task."""
        sleep(max(0.0, seconds - self.now))

    def tasks(self, count: int = 0) -> list[Task]:
        """The tasks that have ended, by their start; those of the first `count`, once there are as many."""
        self._until(lambda: self._notes.llen('ended') >= count)
        began = float(self._notes.get('began'))
        rows = map(json.loads, self._notes.lrange('ended', 0, -1))
        tasks = sorted((Task(row, start - began, end - began) for row, start, end in rows), key=lambda task: task.start)
        return tasks[:count or None]

    def _until(self, condition: Any) -> None:
        deadline = monotonic() + TIMEOUT
        while not condition():
            if monotonic() > deadline or self._worker and self._worker.poll() is not None:
                self._log.seek(0)
                raise SystemExit(f'the worker did not run its tasks:\n{self._log.read().decode(errors="replace")}')
            sleep(0.005)

    def close(self) -> None:
        if self._worker and self._worker.stdin:
            self._worker.kill()
            self._worker.wait()
            self._worker.stdin.close()
        self._log.close()
        self.app.close()


@contextmanager
def running(qos: Optional[QoS], slots: int = 1) -> Iterator[Run]:
    """A run on a server of its own, which ends with it."""
    with EmbeddedRedis() as server:
        run = Run(server, qos, slots)
        try:
            yield run
        finally:
            run.close()


def make_app(broker_url: str, options: dict[str, Any], notes: Any = None) -> Celery:
    """The app; `notes` is where the worker notes when tasks begin and end."""
    app = Celery('pictures', broker=broker_url, set_as_current=False)
    # A turn is decided when the task before it has ended, so that a bar stands for a turn.
    app.conf.update(broker_transport_options=options, task_ignore_result=True, task_acks_late=True,
                    worker_prefetch_multiplier=1)

    @app.task(name='work', shared=False)
    def work(row: str, seconds: float) -> None:
        start = time()
        notes.set('began', start, nx=True)
        sleep(seconds)
        notes.rpush('ended', json.dumps([row, start, time()]))

    return app


def main(broker_url: str, socket: str, options: str, slots: str) -> None:
    """Be the worker."""
    Thread(target=end_with_parent, args=(socket,), daemon=True).start()
    app = make_app(broker_url, json.loads(options), Redis(unix_socket_path=socket, db=NOTES))
    app.Worker(pool='solo' if slots == '1' else 'threads', concurrency=int(slots), loglevel='WARNING', quiet=True,
               without_gossip=True, without_mingle=True).start()


if __name__ == '__main__':
    main(*sys.argv[1:])
