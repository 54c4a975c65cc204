"""To and from the lists of the stock Redis transport."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import SchemaMismatch
from ..publication import Publication
from ..scripts import script
from .calls import SLOW_IDS_PER_CALL, batches, in_ms
from .database import SCHEMA_VERSION, Database
from .replies import Delivery, delivery_of


class Lists(Database):
    def adopt(self, queue: str, source: str, look: int, tasks: Sequence[tuple[bytes, Publication]]) -> list[str]:
        """Move tasks from a list into their tenants' streams.

        Arguments:
            source: the list's key.
            look: how far from its end, where stock workers take, an entry is looked for.
            tasks: each as it lies in the list, and what is enqueued of it. No capacity limits them.

        Returns:
            What became of the first ones, as many as one call does: ``waits``, ``delayed``, ``expired``, ``gone``
            where the list had it no more, ``stuck`` where its tenant's key holds something else.

        Raises:
            SchemaMismatch: the queue's keys follow another layout.
        """
        arguments: list[Any] = [look]
        for entry, publication in tasks:
            tenant, priority, _, _, *rest = publication.arguments
            arguments += [entry, 2 + len(rest), tenant, priority, *rest]
        found = script('adopt')(self.client, [self.namespace(queue), source], *arguments)
        outcomes = [each.decode() for each in found]
        if outcomes and outcomes[0] == 'schema':
            raise SchemaMismatch(queue, outcomes[1], SCHEMA_VERSION)
        return outcomes

    def claim(self, queue: str, consumer: str, most: int, lease_seconds: float) -> tuple[list[Delivery], bool]:
        """Deliver tasks to one who takes them to another broker, in their order, whatever limits hold them.

        Returns:
            Some of them, and whether more wait; there may be none in one call, and some in the next.
        """
        more, *entries = self.run('claim', queue, consumer, most, in_ms(lease_seconds))
        return [delivery_of(queue, name.decode(), flat) for name, flat in entries], bool(more)

    def leave(self, queue: str, consumer: str, lease_seconds: float, targets: Sequence[str],
              tasks: Iterable[tuple[str, str, int, bytes]]) -> int:
        """Move tasks to lists, as the stock transport keeps them; returns how many were there.

        Arguments:
            consumer: who claimed those that are in egress.
            targets: keys of the lists.
            tasks: ``egress`` or ``delayed``, the name of its entry or its place, which list, and the entry of that.
        """
        return sum(script('leave')(self.client, [self.namespace(queue), *targets], consumer, in_ms(lease_seconds), *[
            part for kind, name, target, entry in some for part in (kind, name, target + 1, entry)])
            for some in batches(tasks, SLOW_IDS_PER_CALL))
