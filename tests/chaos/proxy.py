"""A TCP port in front of the broker that can cut connections, and can leave them half-open."""
from __future__ import annotations

import asyncio
import threading
from typing import Any, Optional

__all__ = ('Proxy',)


class Proxy:
    """Forwards a local port to a unix socket, in a thread of its own; a context manager.

    Arguments:
        path: the unix socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name='proxy')
        self._ready = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._forwards: Optional[asyncio.Event] = None
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def connections(self) -> int:
        return len(self._writers) // 2

    def cut(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Forward nothing from now on, on old connections and on new ones, and tell nobody."""
        self._call('clear')

    def go_on(self) -> None:
        """Forward again, also what was held up."""
        self._call('set')

    def _call(self, what: str) -> None:
        assert self._forwards is not None
        self._loop.call_soon_threadsafe(getattr(self._forwards, what))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._cut()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> None:
        self._forwards = asyncio.Event()
        self._forwards.set()
        self._server = await asyncio.start_server(self._connect, '127.0.0.1', 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: Any, writer: Any) -> None:
        try:
            upstream = await asyncio.open_unix_connection(self._path)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, upstream[1]}
        self._writers |= pair
        try:
            done, pending = await asyncio.wait(
                [asyncio.ensure_future(self._pump(reader, upstream[1])),
                 asyncio.ensure_future(self._pump(upstream[0], writer))],
                return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        except asyncio.CancelledError:
            pass    # the proxy ends
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._forwards is not None
        try:
            while data := await reader.read(65536):
                await self._forwards.wait()
                writer.write(data)
                await writer.drain()
            # What a peer sent before it went is not lost on the way.
            await self._forwards.wait()
            writer.close()
        except OSError:
            pass
