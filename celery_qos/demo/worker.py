"""A Celery worker in a process of its own; ends, and takes its Redis server along, when the demo is gone."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import Optional

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from . import records
from .app import make_app
from .errors import DemoError

__all__ = ('WorkerProcess', 'end_with_parent', 'main')

#: Seconds that a worker may take to finish its task.
_STOP_TIMEOUT = 5.0


class WorkerProcess:
    """A worker with one slot.

    Arguments:
        name: what errors call it.
        broker_url: where its tasks come from.
        socket: of the Redis server that holds the records.
    """

    def __init__(self, name: str, broker_url: str, socket: str) -> None:
        self.name = name
        self._log = TemporaryFile()  # noqa: SIM115, it lives as long as the worker
        # Not the folder that the demo is started in: a celery.py in it would be imported for Celery.
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__, broker_url, socket], cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True)

    def check(self) -> None:
        """Raise `DemoError` where the worker has ended by itself."""
        if self._process.poll() is not None:
            self._log.seek(0)
            lines = self._log.read().decode(errors='replace').strip().splitlines() or ['it logged nothing']
            raise DemoError(f'the {self.name} worker ended with status {self._process.returncode}: {lines[-1]}')

    def stop(self) -> None:
        """Ask the worker to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """Have the worker end, and wait for it."""
        self.stop()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._log.close()


def main(broker_url: str, socket: str) -> Optional[int]:
    """Work until a signal comes. One process, one slot: a prefork pool's parent would hold a task more."""
    Thread(target=end_with_parent, args=(socket,), daemon=True).start()
    app = make_app(broker_url, records.Records(Redis(unix_socket_path=socket, db=records.DATABASE)))
    worker = app.Worker(pool='solo', concurrency=1, loglevel='WARNING', quiet=True, without_gossip=True,
                        without_mingle=True)
    worker.start()
    return worker.exitcode


def end_with_parent(socket: str) -> None:
    """Reading standard input returns when the program that started this, and holds its other end, is gone, even if
    it was killed: end the Redis server at `socket` too.
    """
    os.read(0, 1)
    try:
        # Not tried again: that the connection breaks is what is wanted.
        Redis(unix_socket_path=socket, retry=Retry(NoBackoff(), 0)).shutdown(nosave=True)
    except RedisError:
        pass        # it is down already
    shutil.rmtree(os.path.dirname(socket), ignore_errors=True)
    os._exit(1)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
