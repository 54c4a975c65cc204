"""The transport for a Redis that Sentinel watches over: every connection goes to whoever is master now."""
from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.url import parse_url
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool, SentinelManagedConnection

from .address import SENTINEL_SCHEMES, TLSConnection
from .errors import ConfigError
from .transport import Channel, Transport

__all__ = ('SentinelTransport', 'SentinelChannel')

#: Seconds that one Sentinel may take to answer, unless `sentinel_kwargs` says otherwise; then the next one is asked.
ANSWER_TIMEOUT = 1.0


class Sentinels(Sentinel):
    """Asks the Sentinels for the master, and keeps no connection to them: they too may die."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the master; who knew it is asked first the next time.

        Raises:
            MasterNotFoundError: none of them knows one that is up; says why, and no password.
        """
        answers = []
        for sentinel in list(self.sentinels):
            options = sentinel.get_connection_kwargs()
            try:
                masters: Any = sentinel.sentinel_masters()
                state = masters.get(service_name)
                answer = 'it is down' if state else 'it is not known'
            except RedisError as exc:
                state, answer = None, str(exc)
            finally:
                sentinel.connection_pool.disconnect(inuse_connections=False)
            if state and self.check_master_state(state, service_name):
                self.sentinels = [sentinel, *(each for each in self.sentinels if each is not sentinel)]
                return state['ip'], state['port']
            answers.append(f'{options["host"]}:{options["port"]}: {answer}')
        raise MasterNotFoundError(f'no Sentinel has a master {service_name!r}: {"; ".join(answers)}')


class MasterTLSConnection(SentinelManagedConnection, TLSConnection):
    """A connection to the master, over TLS."""


class SentinelChannel(Channel, kombu_redis.SentinelChannel):
    """A channel all of whose connections follow the master."""

    connection_class = SentinelManagedConnection
    connection_class_ssl: Any = MasterTLSConnection

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> ConnectionPool:
        transport = self.connection
        params = self._connparams(asynchronous)
        options: dict[str, Any] = {
            'socket_timeout': ANSWER_TIMEOUT, 'socket_connect_timeout': ANSWER_TIMEOUT, 'retry': Retry(NoBackoff(), 0),
            **{name: value for name, value in params.items() if name.startswith('socket_') and value is not None},
            # Who asks for TLS gets it on the way to the Sentinels too.
            **({'ssl': True, **transport.client.ssl} if transport.client.ssl else {}),
            **(getattr(self, 'sentinel_kwargs', None) or {}),
        }
        if not options.get('ssl'):
            options = {name: value for name, value in options.items() if not name.startswith('ssl')}
        # Until the first connection it is a name only, by which a process tells one deployment from another.
        params['port'] = 0
        params['host'] = f'{transport.master_name}@' + ','.join(f'{host}:{port}' for host, port in transport.sentinels)
        sentinels = Sentinels(
            transport.sentinels, min_other_sentinels=getattr(self, 'min_other_sentinels', 0), sentinel_kwargs=options)
        return SentinelConnectionPool(transport.master_name, sentinels, **params)


class SentinelTransport(Transport):
    """`Transport`, where the URL names Sentinels and the option `master_name` the master."""

    Channel = SentinelChannel
    default_port: Any = 26379
    schemes = SENTINEL_SCHEMES
    names = ('qos-sentinel', 'qoss-sentinel')

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.master_name = client.transport_options.get('master_name')
        if not isinstance(self.master_name, str) or not self.master_name:
            raise ConfigError(f'broker_transport_options: master_name: {self.master_name!r} is not the name of the '
                              'master that the Sentinels of the broker URL watch')
        parts = [parse_url(url) for url in client.alt or ()] or [{'hostname': client.hostname, 'port': client.port}]
        #: Host and port of each Sentinel, in an order that no failover changes.
        self.sentinels = sorted({(each['hostname'] or 'localhost', each['port'] or self.default_port)
                                 for each in parts})
