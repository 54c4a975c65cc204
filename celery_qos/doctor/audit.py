"""The part of the waist that compares what is noted of a queue with what is there, and mends it."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from ..store import Store, batches, to_bytes, to_text

__all__ = ('Audit', 'Account', 'Totals')

#: So often a call is made anew to have done what one call left over, before it is left to the sweep.
_MOST_ROUNDS = 100


class Account(NamedTuple):
    """What is noted, and what there is."""

    #: Of a tenant or of what holds tenants; of what is in flight, the subject.
    id: str
    #: None where nothing is.
    noted: Optional[int]
    tasks: int
    #: It has tasks, and will have no turn.
    lost: bool = False
    #: Others are inside; None where that is not known. Only of a tenant without tasks of its own.
    inside: Optional[bool] = False


class Totals(NamedTuple):
    """Accounts that are sums of others."""

    #: False where the accounts of tenants are too many to add up at one time; then `waiting` and `sums` say nothing.
    complete: bool
    waiting: Account
    slots: Account
    #: Of sub-queues, and of tenants with others inside: those that are wrong.
    sums: tuple[Account, ...]


class Audit:
    """Each method is one call of a script, or one for some of what it is given: of one moment, while others work.

    Arguments:
        mend: have what is noted be what is there. No task is deleted.
    """

    def __init__(self, store: Store, queue: str, mend: bool = False) -> None:
        self._store, self._queue, self._mend = store, queue, mend

    def tenants(self, ids: Sequence[str]) -> list[Account]:
        """Of each of these tenants, by id, few enough for one call."""
        found = self._run('audit', 'mend' if self._mend else 'look', *map(to_bytes, ids))
        return [Account(id, noted if noted >= 0 else None, tasks, bool(lost), None if inside < 0 else bool(inside))
                for id, (noted, tasks, lost, inside) in zip(ids, found)]

    def forget(self, accounts: Iterable[Account]) -> int:
        """Delete these accounts of tenants without tasks, unless they have changed since; returns how many went."""
        return self._run('audit', 'forget', *[part for each in accounts for part in (to_bytes(each.id), each.noted)])

    def totals(self, most: int) -> Totals:
        """The accounts that are sums of others, where there are not more than `most`, and the number of slots."""
        waiting, tasks, slots, sum_of_slots, *flat = self._run('totals', int(self._mend), most)
        parts = iter(flat)
        sums = tuple(Account(to_text(id), noted if noted >= 0 else None, right)
                     for id, noted, right in zip(parts, parts, parts))
        return Totals(tasks >= 0, Account('', waiting, tasks), Account('', slots, sum_of_slots), sums)

    def flights(self, most: int, most_bytes: int) -> tuple[int, Optional[list[Account]]]:
        """How many tasks are in flight, and the accounts of them that are wrong; None where they are too many."""
        count, few, *flat = self._run('flights', int(self._mend), most, most_bytes)
        parts = iter(flat)
        wrong = [Account(to_text(subject), int(noted), right) for subject, noted, right in zip(parts, parts, parts)]
        return count, wrong if few else None

    def strays(self, found: Sequence[tuple[str, str]], lease_seconds: float) -> list[bool]:
        """Of each kind and name of a key that was found, few enough for one call, whether nobody goes by it."""
        flat = [part for kind, name in found for part in (kind, to_bytes(name))]
        return [bool(each) for each in self._run('strays', int(self._mend), int(lease_seconds * 1000), *flat)]

    def delayed(self, task_ids: Iterable[str]) -> int:
        """How many tasks that are delayed under these ids nobody would look at again."""
        return sum(self._run('delayed_strays', int(self._mend), *map(to_bytes, some))
                   for some in batches(task_ids, 12))

    def fill(self) -> None:
        """Go on with a change of the settings, and fill free slots."""
        for _ in range(_MOST_ROUNDS):
            if not self._run('fill'):
                break

    def _run(self, name, *args):
        return self._store.run(name, self._queue, *args)
