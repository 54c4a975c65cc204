"""The dead letters of a queue."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from .. import keys
from .calls import SLOW_IDS_PER_CALL, batches
from .database import Database


class DeadLetters(Database):
    def dead_letters(self, queue: str, after: str = '', count: int = 100) -> list[tuple[str, dict[bytes, bytes]]]:
        """Id and fields of the dead letters past the one of this id, the oldest first."""
        found: Any = self.client.xrange(keys.dead(self.namespace(queue)), f'({after}' if after else '-', count=count)
        return [(letter_id.decode(), fields) for letter_id, fields in found]

    def newest_dead_letters(self, queue: str, before: str = '',
                            count: int = 100) -> list[tuple[str, dict[bytes, bytes]]]:
        """The same before the one of this id, the newest first."""
        found: Any = self.client.xrevrange(
            keys.dead(self.namespace(queue)), f'({before}' if before else '+', '-', count=count)
        return [(letter_id.decode(), fields) for letter_id, fields in found]

    def dead_letter(self, queue: str, letter_id: str) -> Optional[dict[bytes, bytes]]:
        """The fields of one; None where there is none of this id."""
        found: Any = self.client.xrange(keys.dead(self.namespace(queue)), letter_id, letter_id)
        return found[0][1] if found else None

    def count_dead_letters(self, queue: str) -> int:
        return self.client.xlen(keys.dead(self.namespace(queue)))

    def exhume(self, queue: str, ids: Iterable[str], again: bool) -> int:
        """Take dead letters out, `again` to have them delivered; returns how many were there."""
        return sum(self.run('exhume', queue, int(again), *some) for some in batches(ids, SLOW_IDS_PER_CALL))
