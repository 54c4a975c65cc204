"""The Redis servers: the broker, which is killed and comes back with its data, and the one that keeps the ledger."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Optional

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from celery_qos.embedded import EmbeddedRedis

__all__ = ('Broker', 'Keeper')


class Keeper(EmbeddedRedis):
    """Keeps the ledger and the results of chords. Its log is a file, as it lives long."""

    def __init__(self, binary: Optional[Path] = None, *arguments: str) -> None:
        super().__init__(binary, *arguments)
        self.logfile = Path(self._folder, 'redis.log')
        self._arguments += ('--logfile', str(self.logfile))


class Broker(Keeper):
    """Loses nothing that it has confirmed: its append-only file is on disk before it answers."""

    def __init__(self, binary: Optional[Path] = None) -> None:
        super().__init__(binary, '--appendonly', 'yes', '--appendfsync', 'always',
                         '--auto-aof-rewrite-min-size', '16mb')

    def crash(self, pause: float) -> None:
        """End as by kill -9, and come back after `pause` seconds."""
        self.kill()
        time.sleep(pause)
        self.start()

    def shut_down(self, pause: float) -> None:
        """End by SHUTDOWN NOSAVE, and come back."""
        # A client that tries again would find nobody, and wait between.
        client = Redis(unix_socket_path=self.socket, retry=Retry(NoBackoff(), 0))
        try:
            client.shutdown(nosave=True)
        except RedisConnectionError:
            pass
        assert self._process is not None
        self._process.communicate()
        time.sleep(pause)
        self.start()
