"""A TCP port in front of a Redis server, whose connections can be made to hang."""
from __future__ import annotations

import select
import socket
import threading

from celery_qos.embedded import EmbeddedRedis

__all__ = ('Proxy',)


class Proxy:
    """Forwards every connection, until those that there are shall hang: both of their ends stay open, in silence.

    Arguments:
        hides_ends: of a connection that one side closes, the other side is not told.
    """

    def __init__(self, server: EmbeddedRedis, hides_ends: bool = False) -> None:
        self._server, self._hides_ends = server, hides_ends
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stopped = False

    def url(self, scheme: str, db: int = 0) -> str:
        return f'{scheme}://127.0.0.1:{self.port}/{db}'

    def hang(self) -> int:
        """No connection that there is now gets another byte through; returns how many there are."""
        with self._lock:
            hung = len(self._peers) // 2
            self._silent += self._peers
            self._peers.clear()
            return hung

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True

    def _run(self) -> None:
        while not self._stopped:
            for ready in select.select([self._listener, *list(self._peers)], [], [], 0.05)[0]:
                if ready is self._listener:
                    self._accept()
                else:
                    self._forward(ready)
        for each in [self._listener, *self._peers, *self._silent]:
            each.close()

    def _accept(self) -> None:
        client = self._listener.accept()[0]
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server.socket)
        with self._lock:
            self._peers.update({client: server, server: client})

    def _forward(self, one: socket.socket) -> None:
        with self._lock:
            other = self._peers.get(one)
            if other is None:
                return
            try:
                data = one.recv(65536)
                other.sendall(data)
            except OSError:
                data = b''
            if not data:
                del self._peers[one], self._peers[other]
                one.close()
                if self._hides_ends:
                    self._silent.append(other)
                else:
                    other.close()
