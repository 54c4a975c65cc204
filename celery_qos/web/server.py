"""HTTP around the page and its `Api`: who may ask, what a browser may do with the answers."""
from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any, NamedTuple, Optional
from urllib.parse import parse_qsl, urlsplit

from .api import Api, Reply

__all__ = ('Server',)

logger = logging.getLogger(__name__)

#: Bytes that a request may bring.
MOST_BYTES = 65536
#: Seconds that a browser may be silent until its connection is closed.
SILENCE = 60
#: Everything comes from here and nothing is embedded; text becomes no markup, not even by mistake.
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
HEADERS = {
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}


class File(NamedTuple):
    kind: str
    content: bytes


def _file(name: str, kind: str) -> File:
    return File(f'{kind}; charset=utf-8', (files(__package__) / 'static' / name).read_bytes())


class Server(ThreadingHTTPServer):
    """Serves until `shutdown`; each connection has a thread.

    Arguments:
        host: the address or name to bind to.
        names: further names that browsers know this server by, such as that of a reverse proxy.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: Api, host: str = '127.0.0.1', port: int = 0, names: Iterable[str] = ()) -> None:
        self.api = api
        self.names = {'localhost', host.lower(), *(name.lower() for name in names)}
        self.files = {'/': _file('index.html', 'text/html'), '/style.css': _file('style.css', 'text/css'),
                      '/page.js': _file('page.js', 'text/javascript')}
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), Handler)
        shown = host if host not in ('0.0.0.0', '::') else '127.0.0.1'
        self.url = f'http://{f"[{shown}]" if ":" in shown else shown}:{self.server_port}/'

    def server_bind(self) -> None:
        # Without HTTPServer's, which asks DNS for the name of this machine.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]    # type: ignore[assignment]

    def knows(self, host: Optional[str]) -> bool:
        """Whether a browser may call this server so. A page of somebody else's can have its own name resolved to our
        address (DNS rebinding) and would then read what we answer; it cannot do so with an address or with our names.
        """
        found = re.fullmatch(r'(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d+)?', (host or '').lower())
        if not found:
            return False
        name = found[1].strip('[]')
        return name in self.names or _is_address(name)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug('a connection ended', exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Translates a request for the `Api`, and its reply."""

    server: Server
    protocol_version = 'HTTP/1.1'
    server_version, sys_version = 'celery-qos', ''
    timeout = SILENCE

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self.server.knows(self.headers.get('Host')):
            self._send_reply(_UNKNOWN_HOST)
        elif url.path.startswith('/api/'):
            self._answer(url.path, url.query)
        elif url.path in self.server.files:
            self._send(200, *self.server.files[url.path])
        else:
            self._send_reply(Reply(404, {'error': 'there is no such page'}))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        length = self.headers.get('Content-Length', '')
        if not self.server.knows(self.headers.get('Host')):
            reply = _UNKNOWN_HOST
        elif not url.path.startswith('/api/'):
            reply = Reply(404, {'error': 'there is no such page'})
        elif not length.isdecimal() or int(length) > MOST_BYTES:
            reply = Reply(413, {'error': f'the body must have a Content-Length, of {MOST_BYTES} bytes at most'})
        elif self.headers.get_content_type() != 'application/json':
            reply = Reply(415, {'error': 'the body must be application/json'})
        else:
            self._answer(url.path, '', self.rfile.read(int(length)))
            return
        # What it brought was not read, so nothing more can be read from this connection.
        self.close_connection = True
        self._send_reply(reply)

    def _answer(self, path: str, query: str, body: bytes = b'') -> None:
        scheme, _, token = self.headers.get('Authorization', '').partition(' ')
        method = 'POST' if self.command == 'POST' else 'GET'
        self._send_reply(self.server.api.answer(
            method, path.removeprefix('/api/'), dict(parse_qsl(query, keep_blank_values=True)), body,
            token.strip() if scheme.lower() == 'bearer' else None))

    def _send_reply(self, reply: Reply) -> None:
        self._send(reply.status, 'application/json', json.dumps(reply.data).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, 'Content-Type': kind, 'Content-Length': str(len(content))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header('Connection', 'close')
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


_UNKNOWN_HOST = Reply(421, {
    'error': 'this server does not go by the name in the Host header; use its address, or start it with --name'})


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
