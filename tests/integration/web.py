"""The page of ``celery qos web``, served in this process, and a client that asks as a browser does."""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Thread
from typing import Any, NamedTuple, Optional
from urllib.parse import urlencode

from celery import Celery
from kombu import pools

import celery_qos
from celery_qos.publication import Publication
from celery_qos.store import Store
from celery_qos.web.api import Api
from celery_qos.web.server import Server

__all__ = ('TOKEN', 'Answer', 'Web', 'serve', 'fill', 'bury')

TOKEN = 'correct-horse-battery-staple'


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class Web:
    def __init__(self, server: Server, app: Celery) -> None:
        self.server, self.url, self.control = server, server.url, celery_qos.control(app)

    def get(self, path: str, token: str = '', headers: Optional[dict[str, str]] = None, **query: Any) -> Answer:
        return self.ask('GET', f'{path}?{urlencode(query)}' if query else path, token=token, headers=headers)

    def post(self, path: str, data: Any, token: str = '', headers: Optional[dict[str, str]] = None) -> Answer:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.ask('POST', path, body, token, {'Content-Type': 'application/json', **(headers or {})})

    def ask(self, method: str, path: str, body: Optional[bytes] = None, token: str = '',
            headers: Optional[dict[str, str]] = None) -> Answer:
        connection = HTTPConnection('127.0.0.1', self.server.server_port, timeout=20)
        try:
            given = {'Authorization': f'Bearer {token}'} if token else {}
            connection.request(method, path, body, {**given, **(headers or {})})
            reply = connection.getresponse()
            return Answer(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()


@contextmanager
def serve(broker: str, token: Optional[str] = None, **options: Any) -> Iterator[Web]:
    """The page on a free port; `options` are those of the server."""
    pools.reset()
    app = Celery('shop', broker=broker, set_as_current=False, broker_transport_options={'max_retries': 0})
    with Server(Api(celery_qos.control(app), ['celery'], token), **options) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Web(server, app)
        finally:
            server.shutdown()
            thread.join()


def fill(store: Store, *tenants: str, tasks: int = 1) -> None:
    """So many tasks for each of these tenants."""
    for start in range(0, len(tenants), 500):
        store.enqueue_all([Publication('celery', tenant, 0, {
            'tenant': tenant, 'body': f'of {tenant}',
            'headers': json.dumps({'id': f'{tenant}-{number}', 'task': 'shop.sync'})})
            for tenant in tenants[start:start + 500] for number in range(tasks)])


def bury(store: Store, tenant: str, tasks: int = 1) -> None:
    """So many dead letters of this tenant; the queue must be empty."""
    store.lease('celery', 'gravedigger', tasks, 60)
    fill(store, tenant, tasks=tasks)
    store.bury('celery', [each.entry_id for each in store.take(['celery'], 'gravedigger', tasks)], 'delivered 5 times')
    store.release('celery', 'gravedigger')
