"""Whole queues: to make, to count, to empty and to delete them."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from redis.exceptions import ResponseError

from .. import keys
from ..errors import ConfigError, SchemaMismatch
from .calls import SLOW_IDS_PER_CALL, batches
from .database import SCHEMA_VERSION, WAITS
from .replies import list_of, options_of, to_bytes, to_text
from .settings import Settings

#: Fields of a hash that one call looks at.
_SCANNED_PER_CALL = 1000


class Queues(Settings):
    def declare(self, queue: str, fingerprint: str = '', settings: Optional[Mapping[str, str]] = None,
                structure: Optional[Mapping[str, Any]] = None, force: bool = False) -> None:
        """Make the queue known and store what its config says.

        Arguments:
            fingerprint: identifies the config; '' leaves what another process stored.
            settings: field and value of the settings hash.
            structure: what every process that uses the queue must agree on.
            force: have it prevail over another structure that is at work.

        Raises:
            SchemaMismatch: the queue's keys follow another layout.
            ConfigError: the queue is at work with another structure.
        """
        pairs = [part for pair in (settings or {}).items() for part in pair]
        left = WAITS
        while left == WAITS:
            stored, streams, left, *contradicted = self.run(
                'declare', queue, SCHEMA_VERSION, fingerprint, json.dumps(structure or {}), int(force), *pairs)
        if stored.decode() != SCHEMA_VERSION:
            raise SchemaMismatch(queue, stored.decode(), SCHEMA_VERSION)
        self._streams[queue] = streams
        if contradicted:
            raise ConfigError(_contradiction(queue, options_of(contradicted[0]) or {}, structure or {}))
        self._finish(queue, left)

    def is_configured(self, queue: str) -> bool:
        """Whether any process's config of it is stored."""
        return bool(self.client.hexists(keys.settings(self.namespace(queue)), 'config'))

    def size(self, queue: str) -> Optional[int]:
        """Tasks that no worker holds yet, or None where there is no such queue."""
        size = self.run('size', queue)
        return None if size < 0 else size

    def purge(self, queue: str, on_progress: Callable[[int], None] = lambda count: None) -> int:
        """Delete the tasks that no worker holds yet; returns how many.

        Arguments:
            on_progress: called with how many more were deleted, now and then. What it raises ends the purge.
        """
        total, done = 0, 0
        while not done:
            purged, done = self.run('purge', queue)
            total += purged
            on_progress(purged)
        return total

    def purge_tenant(self, queue: str, tenant: str, on_progress: Callable[[int], None] = lambda count: None) -> int:
        """As `purge`, of what waits in the streams of a tenant and of those inside it."""
        total = 0
        for ids in batches(self._ids_of(queue, tenant), SLOW_IDS_PER_CALL):
            purged = self.run('purge_tenant', queue, *map(to_bytes, ids))
            total += purged
            on_progress(purged)
        return total

    def _ids_of(self, queue: str, tenant: str) -> Iterator[str]:
        """The ids of a tenant in all sub-queues, and those of the tenants inside it that have tasks."""
        ns = self.namespace(queue)
        for sub_queue in self.every_sub_queue(queue):
            yield keys.tenant_id(tenant, sub_queue)
        if self.client.hexists(keys.state(ns), 'nested'):
            inside = '*:' + re.sub(r'([][*?\\])', r'\\\1', tenant) + keys.PART + '*'
            for each, _ in self.client.hscan_iter(keys.waiting(ns), to_bytes(inside), count=_SCANNED_PER_CALL):
                if to_text(each).partition(':')[2].startswith(tenant + keys.PART):
                    yield to_text(each)

    def every_sub_queue(self, queue: str) -> list[str]:
        """The implicit one, the declared ones, and those that are declared no longer but may have tasks."""
        former: Any = self.client.hget(keys.settings(self.namespace(queue)), 'former')
        return list(dict.fromkeys(['', *self.sub_queues(queue), *map(str, list_of(former))]))

    def delete(self, queue: str, if_unused: bool = False) -> bool:
        """Delete the queue and its settings; False where `if_unused` kept it."""
        if if_unused and self.client.exists(keys.slots(self.namespace(queue))):
            return False
        self.purge(queue)
        return bool(self.run('delete', queue, int(if_unused)))

    # -- Kombu's own reply queues

    def mark_transient(self, queue: str, ttl_ms: int) -> None:
        self.client.set(keys.transient(self.namespace(queue)), ttl_ms, px=ttl_ms)

    def keep_transient(self, queue: str, ttl_ms: int) -> None:
        """Have the mark last; done where memory is full too, unless it has lapsed."""
        if not self.client.pexpire(keys.transient(self.namespace(queue)), ttl_ms):
            self.mark_transient(queue, ttl_ms)

    def unmark_transient(self, queue: str) -> None:
        self.client.delete(keys.transient(self.namespace(queue)))

    def transient_ttl_ms(self, queue: str) -> Optional[int]:
        """How long a reply queue's messages are kept, or None where the queue is not one of Kombu's own."""
        try:
            return int(self.client.get(keys.transient(self.namespace(queue))) or 0) or None
        except (ValueError, ResponseError):
            return None     # what was set by hand marks nothing


def _contradiction(queue: str, stored: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    name = next((name for name in (*mine, *stored) if mine.get(name) != stored.get(name)), '')
    return (f'queue {queue!r}: {name}: {mine.get(name)!r} contradicts {stored.get(name)!r}, which it is at work '
            'with; start every producer and worker with the same, or change it by celery_qos.control(app).configure()')
