"""What workers tell of themselves: that they live, how many slots they bring, how long tasks waited."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Optional, Union

from .. import keys
from .calls import MOST_ROUNDS, in_ms
from .replies import Recovery, Sweep, to_text
from .tasks import Tasks

#: Counts of waits per call.
WAITS_PER_CALL = 200


class Workers(Tasks):
    def lease(self, queue: str, consumer: str, slots: int, lease_seconds: float,
              suspects: Optional[int] = None) -> tuple[bool, int]:
        """Register a consumer or renew its lease.

        Arguments:
            suspects: how many tasks it may be at work on at a time: should it die, these deliveries failed, those of
                tasks that only waited in it did not. None for all.

        Returns:
            Whether it had no lease before; and, where `slots` is 0, how many tasks it has not settled (with none
            left its lease is given up).
        """
        began = monotonic()
        new, unsettled, self._streams[queue], left, now_ms = self.run(
            'lease', queue, consumer, slots, in_ms(lease_seconds), '' if suspects is None else suspects)
        self.clock.set(now_ms, began, monotonic())
        self._finish(queue, left, range(MOST_ROUNDS))
        return bool(new), unsettled

    def release(self, queue: str, consumer: str) -> int:
        """A consumer leaves for good; returns how many tasks it handed back."""
        total, done = 0, 0
        while not done:
            moved, done = self.run('release', queue, consumer)
            total += moved
        return total

    def reclaim(self, queue: str, consumer: str, held: Iterable[str]) -> int:
        """Deliver again what `consumer` was sent and does not hold; returns how many."""
        total, after, names = 0, '', list(held)
        while True:
            moved, last = self.run('reclaim', queue, consumer, after, *names)
            total, after = total + moved, last.decode()
            if not after:
                return total

    def note_waits(self, queue: str, counts: Mapping[tuple[bytes, Union[int, str]], int], seconds: float) -> None:
        """Add up how long tasks waited that were delivered; at most `WAITS_PER_CALL` counts.

        Arguments:
            counts: to how many, the id of a tenant, the name of a sub-queue, or `keys.ROOT` for the whole queue, and
                the bucket that their waits belong to; or 'ms', to the sum of the waits.
            seconds: in which they were gathered.
        """
        self.run('note_waits', queue, in_ms(seconds), *[
            part for (of, bucket), count in counts.items() for part in (of, bucket, count)])

    # -- sweep loops

    def sweep(self, queue: str, lease_seconds: float, sweeper: str) -> Sweep:
        """One iteration: deliver the tasks of dead workers again, look at what is due, and dispatch.

        Arguments:
            sweeper: name of the loop, which has the right to sweep for `lease_seconds` more.
        """
        holds, *reply = self.run('sweep', queue, in_ms(lease_seconds), sweeper)
        if not holds:
            return Sweep(False)
        moved, due_ms, idle_threshold, idle_timeout_ms, discarded, *flat = reply
        parts = iter(flat)
        recoveries = tuple(Recovery(to_text(consumer), tasks, died, bool(done))
                           for consumer, tasks, died, done in zip(parts, parts, parts, parts))
        self._note_dead(queue, sum(recovery.died for recovery in recoveries))
        return Sweep(True, moved, None if due_ms < 0 else due_ms, idle_threshold, idle_timeout_ms / 1000, discarded,
                     recoveries)

    def leave_sweep(self, queue: str, sweeper: str) -> None:
        """Let another one loop."""
        self.client.zrem(keys.sweepers(self.namespace(queue)), sweeper)
