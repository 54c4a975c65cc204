"""From the lists of the stock Redis transport into tenants' streams."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Optional

from ..channel import Channel
from ..errors import QoSError
from ..publication import Publication
from ..store import Store
from ..tenant import of_message
from .ferry import Ferry
from .message import parse, parse_unacked, readdress, task_id_of
from .report import Moved, Progress
from .stock import Stock
from .tenants import Tenants

__all__ = ('Forward',)

#: Entries that one call moves at most, and about how many bytes.
MOST, MOST_BYTES = 30, 2 ** 20
#: How far from its end an entry is looked for: workers may put back others behind it meanwhile.
LOOK = 200
#: Entries that are no tasks which are passed over; where there are more, it is no queue of Celery's.
MOST_MALFORMED = 500
#: Tasks of each list whose tenants are counted where nothing is to move.
SAMPLE = 1000
#: Task and what is enqueued of it.
_Tasks = list[tuple[bytes, Publication]]


class Forward:
    """Moves tasks of a stock deployment.

    Arguments:
        stock: the deployment.
        channel: of the app's broker.
        tenants: says whose each task is.
        unacked: move what its workers have not acknowledged too; they must have stopped.
    """

    def __init__(self, stock: Stock, channel: Channel, tenants: Tenants, unacked: bool = False) -> None:
        self._stock, self._channel, self._tenants, self._unacked = stock, channel, tenants, unacked
        self._store: Store = channel.store
        #: Called after each step.
        self.progress: Progress = lambda: None

    @cached_property
    def same_database(self) -> bool:
        return self._stock.is_in(self._store)

    def count(self, queue: str, to: str) -> Moved:
        """What `move` would do. Nothing is written."""
        report = Moved(queue, to, tenants={})
        self._look(report)
        tenants: Counter[str] = Counter()
        for key, client, name in self._lists(queue):
            entries: Any = client.lrange(name, -SAMPLE, -1)
            for entry in entries:
                try:
                    message = parse(entry)
                except ValueError as exc:
                    self._note_malformed(report, key, entry, exc)
                else:
                    self._stamp(message, report)
                    tenants[of_message(message)] += 1
        report.tenants = dict(tenants.most_common())
        report.held = sum(1 for _ in self._unacked_of(queue))
        return report

    def move(self, report: Moved) -> None:
        """Move the tasks that wait in the queue `report` is of; what it says is true at any moment."""
        queue = report.queue
        self._look(report)
        report.malformed = 0
        self._channel.declare(report.to)
        if self._unacked:
            self._restore(report)
        else:
            report.held = sum(1 for _ in self._unacked_of(queue))
        try:
            for step, key in self._stock.lists(queue).items():
                if self.same_database:
                    self._empty(report, key, step)
                else:
                    there = staging(self._stock, key)
                    # Some may be on their way back.
                    ferry_between(self._store, there, self._stock, key).finish()
                    self._empty(report, key, step, there)
        finally:
            report.left = sum(self._left(key) for key in self._stock.lists(queue).values()) - report.malformed

    def _lists(self, queue: str) -> Iterable[tuple[str, Any, str]]:
        """Key of each list; then, of it and of what came of it so far, the client and the key."""
        for key in self._stock.lists(queue).values():
            yield key, self._stock.client, key
            if not self.same_database:
                yield key, self._store.client, staging(self._stock, key)

    def _left(self, key: str) -> int:
        return self._stock.client.llen(key) + (0 if self.same_database else under_way(self._stock, self._store, key))

    def _look(self, report: Moved) -> None:
        report.found = {f'priority {step}': count
                        for step, count in self._stock.lengths(report.queue).items() if count}
        if not self.same_database and (count := all_under_way(self._stock, self._store, report.queue)):
            report.found['under way'] = count

    # -- what is not acknowledged

    def _unacked_of(self, queue: str) -> Iterable[tuple[bytes, dict[str, Any]]]:
        for tag, entry in self._stock.unacked():
            try:
                message, exchange, routing_key = parse_unacked(entry)
            except ValueError:
                continue
            # As its workers do it, it goes to every queue that is bound so; here, to the one that is migrated.
            if queue in self._stock.queues_of(exchange, routing_key):
                yield tag, message

    def note_others(self, reports: list[Moved]) -> None:
        """Have the first of all reports tell what else is not acknowledged: of other queues, and what is no task."""
        first, queues = reports[0], {report.queue for report in reports}
        for _, entry in self._stock.unacked():
            try:
                _, exchange, routing_key = parse_unacked(entry)
            except ValueError as exc:
                self._note_malformed(first, 'unacked', entry, exc)
                first.malformed += 1
            else:
                first.of_others += queues.isdisjoint(self._stock.queues_of(exchange, routing_key))

    def _restore(self, report: Moved) -> None:
        some: list[tuple[bytes, dict[str, Any]]] = []
        for each in self._unacked_of(report.queue):
            some.append(each)
            if len(some) == MOST:
                report.unacked += self._stock.restore(report.queue, some)
                some = []
        report.unacked += self._stock.restore(report.queue, some)

    # -- what waits

    def _empty(self, report: Moved, key: str, step: int, there: Optional[str] = None) -> None:
        """Move what is in the list, as many as there were when it began: what is published meanwhile comes later.

        Arguments:
            there: where it is ferried first, if it is.
        """
        left, ferry = self._left(key), None
        if there is not None:
            ferry, key = ferry_between(self._stock, key, self._store, there), there
        malformed, passed, size = 0, -1, MOST
        while left > 0 and passed:
            passed = skip = 0
            while left > 0:
                if ferry is not None:
                    ferry.carry()
                entries = self._tail(key, skip, size)
                if not entries:
                    break
                size = max(1, min(MOST, MOST_BYTES * len(entries) // (sum(map(len, entries)) or 1)))
                tasks, bad, unknown = self._tasks(report, key, entries, step)
                outcomes = self._store.adopt(report.to, key, LOOK + skip, tasks) if tasks else []
                self._account(report, tasks, outcomes, unknown)
                done = len(outcomes) - outcomes.count('stuck')
                stuck = outcomes.count('stuck')
                if len(outcomes) == len(tasks):
                    skip += bad + stuck
                elif not outcomes:
                    break
                else:
                    skip += stuck
                left, passed = left - done, passed + done
                self.progress()
                if skip > MOST_MALFORMED:
                    report.note(f'{key!r}: more than {MOST_MALFORMED} entries are no tasks; is it a queue of Celery?',
                                first=True)
                    break
            malformed = skip
            left -= skip
        report.malformed += malformed

    def _tail(self, key: str, skip: int, count: int) -> list[bytes]:
        """Entries of a list, the one that is taken first first."""
        found: Any = self._store.client.lrange(key, -(skip + count), -(skip + 1))
        return found[::-1]

    def _tasks(self, report: Moved, key: str, entries: list[bytes],
               step: int) -> tuple[_Tasks, int, dict[bytes, str]]:
        """The tasks in `entries`, how many are none, and of which no tenant was found, and why."""
        tasks: _Tasks = []
        unknown: dict[bytes, str] = {}
        bad = 0
        for entry in entries:
            try:
                message = parse(entry)
                problem = self._tenants.stamp(message)
                if report.to != report.queue:
                    readdress(message, report.to)
                publication = self._channel.publisher.publication(report.to, message, step, own=False)
            except (ValueError, QoSError) as exc:
                self._note_malformed(report, key, entry, exc)
                bad += 1
            else:
                tasks.append((entry, publication))
                if problem is not None:
                    unknown[entry] = f'task {task_id_of(message)}: {problem}' if problem else ''
        return tasks, bad, unknown

    def _account(self, report: Moved, tasks: _Tasks, outcomes: list[str], unknown: dict[bytes, str]) -> None:
        for (entry, publication), outcome in zip(tasks, outcomes):
            if outcome == 'gone':
                report.taken += 1
            elif outcome == 'stuck':
                report.note(f'tenant {publication.tenant!r}: the key of its stream holds something else')
            else:
                report.moved += 1
                report.delayed += outcome == 'delayed'
                report.expired += outcome == 'expired'
                report.without_tenant += entry in unknown
                if unknown.get(entry):
                    report.note(unknown[entry])

    def _stamp(self, message: dict[str, Any], report: Moved) -> None:
        problem = self._tenants.stamp(message)
        report.without_tenant += problem is not None
        if problem:
            report.note(f'task {task_id_of(message)}: {problem}')

    def _note_malformed(self, report: Moved, key: str, entry: bytes, exc: Exception) -> None:
        report.note(f'{key!r}: an entry is no task: {exc}: {entry[:60]!r}')


def staging(stock: Stock, key: str) -> str:
    """The list, in the database of the tenants' streams, of what comes from or goes to a stock list elsewhere."""
    return f'{stock.prefix}qos-migrate:{key}'


def ferry_between(origin: Any, source: str, other: Any, target: str) -> Ferry:
    return Ferry(origin.client, source, other.client, target, f'{origin.prefix}qos-migrate:')


def under_way(stock: Stock, store: Store, key: str) -> int:
    """How many tasks were taken from a stock list and are not in their streams yet, or the other way round."""
    there = staging(stock, key)
    ferries = ferry_between(stock, key, store, there), ferry_between(store, there, stock, key)
    return store.client.llen(there) + sum(ferry.under_way() for ferry in ferries)


def all_under_way(stock: Stock, store: Store, queue: str) -> int:
    """The same of all lists of a queue."""
    return sum(under_way(stock, store, key) for key in stock.lists(queue).values())
