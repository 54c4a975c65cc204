"""The layout of Kombu's stock Redis transport: lists of messages, and what its workers did not acknowledge."""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Optional
from uuid import uuid4

from celery import Celery
from kombu import Connection
from kombu.utils.json import dumps
from redis import Redis

from ..errors import ConfigError
from ..scripts import script
from ..store import Store

__all__ = ('Stock', 'connection_to')

#: Schemes of the stock transport, and of ours, by which its servers are spoken to here: TLS is verified, a handshake
#: ends, and what the URL of one Sentinel says holds for all, as where the app's own broker is.
_SCHEMES = {'redis': 'qos', 'rediss': 'qoss', 'sentinel': 'qos-sentinel'}
#: Elements of the hash that one call reads.
_PAGE = 30


class Stock:
    """A database as the stock transport uses it; a context manager.

    Arguments:
        app: of which the URL, if none is given, and the transport options are: the key prefix, the priority steps.
        url: of the database; by default the one that the app's own broker is in.
        options: transport options that differ from the app's; `ssl` among them takes the place of `broker_use_ssl`.
    """

    def __init__(self, app: Celery, url: Optional[str] = None, options: Optional[Mapping[str, Any]] = None) -> None:
        self._app = app
        self._connection = connection_to(app, url, options)
        # Lists are all that it is asked for: old servers will do.
        self._connection.transport.server_checked = True
        channel: Any = self._connection.default_channel
        self.channel = channel
        self.client = Redis(connection_pool=channel.pool)
        for queue in app.amqp.queues.values():
            if queue.exchange and queue.exchange.name:
                # In this process alone: how what is published to it is routed.
                self.channel.exchange_declare(queue.exchange.name, queue.exchange.type, durable=True)

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    @property
    def prefix(self) -> str:
        return self.channel.global_keyprefix

    @property
    def visibility_timeout(self) -> float:
        """Seconds after which its workers put back what was not acknowledged."""
        return self.channel.visibility_timeout

    def lists(self, queue: str) -> dict[int, str]:
        """Priority, the one that is served first first, to the key of its list."""
        return {step: self.list_of(queue, step) for step in self.channel.priority_steps}

    def list_of(self, queue: str, priority: int) -> str:
        return self.prefix + self.channel._q_for_pri(queue, priority)

    def step_of(self, message: dict[str, Any]) -> int:
        return self.channel.priority(self.channel._get_message_priority(message, reverse=False))

    def lengths(self, queue: str) -> dict[int, int]:
        """Priority to how many wait."""
        return {step: self.client.llen(key) for step, key in self.lists(queue).items()}

    def is_in(self, store: Store) -> bool:
        """Whether it is in the same database as `store`: a key that is set here is there."""
        probe, value = f'{self.prefix}qos-migrate:probe', uuid4().hex
        self.client.set(probe, value, ex=60)
        try:
            return store.client.get(probe) == value.encode()
        finally:
            self.client.delete(probe)

    def alive(self) -> list[str]:
        """Names of its workers that answer."""
        mailbox = self._app.control.mailbox(self._connection)
        # Celery would ask the app's own workers, whatever the connection is.
        mailbox.producer_pool = None
        return sorted(name for answer in mailbox.multi_call('stats', timeout=2.0) for name, stats in answer.items()
                      if (stats.get('broker') or {}).get('transport') in _SCHEMES)

    # -- what is not acknowledged

    def count_unacked(self) -> int:
        return self.client.hlen(self.prefix + self.channel.unacked_key)

    def unacked(self) -> Iterator[tuple[bytes, bytes]]:
        """Delivery tag and entry, the one delivered last first; some at a time."""
        index, tags = self.prefix + self.channel.unacked_index_key, self.prefix + self.channel.unacked_key
        seen = 0
        while True:
            page: Any = self.client.zrevrange(index, seen, seen + _PAGE - 1)
            if not page:
                return
            found: Any = self.client.hmget(tags, page)
            seen += len(page)
            before = self.client.zcard(index)
            yield from ((tag, entry) for tag, entry in zip(page, found) if entry is not None)
            # What was put back is in the index no more.
            seen -= max(0, before - self.client.zcard(index))

    def queues_of(self, exchange: str, routing_key: str) -> list[str]:
        """Where its workers put back what was published so."""
        if not exchange:
            return [routing_key]
        channel, table = self.channel, self.channel.get_table(exchange)
        if exchange in channel.state.exchanges:
            found = channel.typeof(exchange).lookup(table, exchange, routing_key, None)
        else:
            # The app does not know it: its bindings tell of which type it is.
            topics = [row for row in table if {'#', '*'} & set(row[0]) and row[1]]
            found = {queue for name, rows in (('direct', set(table) - set(topics)), ('topic', topics))
                     for queue in channel.exchange_types[name].lookup(rows, exchange, routing_key, None)}
        return [queue for queue in found if queue]

    def restore(self, queue: str, tagged: Iterable[tuple[bytes, dict[str, Any]]]) -> int:
        """Put back tasks that were not acknowledged to where they are taken first, marked redelivered."""
        lists = self.lists(queue)
        steps, arguments = list(lists), []
        for tag, message in tagged:
            with suppress(KeyError, TypeError):
                message['headers']['redelivered'] = True
                message['properties']['delivery_info']['redelivered'] = True
            arguments += [tag, steps.index(self.step_of(message)) + 1, dumps(message)]
        names = self.prefix + self.channel.unacked_key, self.prefix + self.channel.unacked_index_key
        return script('restore')(self.client, [*names, *lists.values()], *arguments) if arguments else 0


def connection_to(app: Celery, url: Optional[str] = None, options: Optional[Mapping[str, Any]] = None) -> Connection:
    """To the servers of a stock deployment; the arguments are those of `Stock`.

    Raises:
        ConfigError: there is no such deployment at this URL.
    """
    given = dict(options or {})
    ssl = given.pop('ssl', None)
    if not url:
        return app.connection_for_write(ssl=ssl, transport_options=given)
    scheme = url.partition('://')[0].partition('+')[0]
    if scheme not in _SCHEMES:
        raise ConfigError(f'the stock deployment is at {scheme}://; its URL must begin with redis://, rediss:// or '
                          'sentinel://')
    if scheme == 'sentinel' and not {**(app.conf.broker_transport_options or {}), **given}.get('master_name'):
        raise ConfigError('master_name: is not given, the name of the master that the Sentinels watch; say it by '
                          '--stock-options, such as {"master_name": "main"}')
    spelled = re.sub(rf'(^|;)({"|".join(_SCHEMES)})(?=[:+])', lambda match: match[1] + _SCHEMES[match[2]], url)
    return app.connection_for_write(spelled, transport=_SCHEMES[scheme], ssl=ssl, transport_options=given)
