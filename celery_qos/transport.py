"""Kombu's transport: where the broker is, and who polls its connections."""
from __future__ import annotations

from typing import Any
from urllib.parse import quote

from kombu.transport import redis as kombu_redis
from kombu.utils.url import as_url, maybe_sanitize_url
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from . import publisher, request, tenant, worker
from .address import SCHEMES, take_address
from .channel import Channel
from .channel_qos import QoS
from .declared import config_of
from .poller import Poller
from .store import Store

__all__ = ('Transport', 'Channel', 'QoS')

tenant.install()
request.install()
publisher.install()
worker.install()


class Transport(kombu_redis.Transport):
    """Kombu's Redis transport with a stream a tenant."""

    Channel = Channel
    client: Any
    cycle: Any
    #: Kombu must not take the URL apart before the scheme is looked at: it says whether TLS is asked for.
    can_parse_url = True
    #: Schemes of its URLs, and whether they ask for TLS; and what it calls itself without and with TLS.
    schemes = SCHEMES
    names = ('qos', 'qoss')
    implements = kombu_redis.Transport.implements.extend(batch_publish=False)
    #: A server that becomes a replica, or is full, will do again later: a worker waits for it, it does not end.
    connection_errors = (*kombu_redis.Transport.connection_errors, ReadOnlyError, OutOfMemoryError)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        take_address(client, self.schemes)
        self.config = config_of(client.transport_options.get('qos'))
        #: Whether it is known to be new enough.
        self.server_checked = False
        super().__init__(client, **kwargs)
        self.cycle = Poller()

    def check_server(self, store: Store) -> None:
        """Once a connection."""
        if not self.server_checked:
            store.check_server()
            self.server_checked = True

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self.cycle.enter_loop(loop, self, loop.on_tick - before)
        if not hasattr(self.cycle, '_discard_paused_connection'):
            self.cycle._on_connection_disconnect = self.cycle.forget_in(loop)

    def _collect(self, connection: Transport) -> None:
        """Kombu calls this where a connection is lost, instead of the orderly close that gives deliveries back."""
        for channel in list(self.channels):
            channel.abandon()
            channel.drop_connections()
        self.close_connection(connection)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = '**') -> str:
        client = self.client
        scheme = self.names[bool(client.ssl)]
        host = client.hostname or 'localhost'
        if '://' in host:
            return f'{scheme}+{host if include_password else maybe_sanitize_url(host, mask)}'
        return as_url(scheme, host, client.port or self.default_port, client.userid, client.password,
                      quote(client.virtual_host or '', safe=''), sanitize=not include_password, mask=mask)
