"""From tenants' streams back into the lists of the stock Redis transport."""
from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import cached_property
from math import inf
from time import monotonic, sleep
from typing import Union
from uuid import uuid4

from kombu.utils.json import dumps
from redis.exceptions import NoPermissionError

from ..channel import Channel
from ..look import Look
from ..store import Delivery, Store
from .ferry import Ferry
from .forward import all_under_way, ferry_between, staging
from .message import message_of
from .report import Moved, Progress
from .stock import Stock

__all__ = ('Back',)

#: Tasks that one call claims at most.
MOST = 30
#: Of a lease: the seconds that a worker which lives takes to renew it, once it has its connection again.
RENEWAL = 1 / 5
#: Seconds between two looks whether the user wants to wait on.
LOOK_EVERY = 0.1
#: Calls one after the other that find nothing to claim though tasks wait, before it gives up.
MOST_BLANKS = 1000


class Back:
    """Moves tasks to a stock deployment: first what is about to be delivered, then what waits, in the order of the
    tenants' turns, then what is delayed.

    Arguments:
        stock: the deployment.
        channel: of the app's broker.
    """

    def __init__(self, stock: Stock, channel: Channel) -> None:
        self._stock, self._channel = stock, channel
        self._store: Store = channel.store
        #: Called after each step.
        self.progress: Progress = lambda: None
        self._began = monotonic()
        #: One for each list, in their order, where the stock deployment is elsewhere.
        self._ferries: list[Ferry] = []
        self._name = f'migrate.{socket.gethostname()}.{os.getpid()}.{uuid4().hex[:8]}'

    @cached_property
    def same_database(self) -> bool:
        return self._stock.is_in(self._store)

    def count(self, queue: str, to: str) -> Moved:
        """What `move` would do. Nothing is written."""
        report = Moved(queue, to)
        self._find(report)
        report.left = 0
        return report

    def move(self, report: Moved) -> None:
        """Move the tasks of the queue `report` is of; what it says is true at any moment."""
        queue = report.queue
        self._channel.declare(queue)
        self._take_over(queue)
        self._find(report)
        lists = self._stock.lists(report.to)
        targets = list(lists.values())
        self._ferries = []
        if not self.same_database:
            targets = [staging(self._stock, key) for key in targets]
            for key, target in zip(lists.values(), targets):
                # Some may be on their way here.
                ferry_between(self._stock, key, self._store, target).finish()
                self._ferries.append(ferry_between(self._store, target, self._stock, key))
        try:
            try:
                self._move_waiting(report, list(lists), targets)
                self._move_delayed(report, list(lists), targets)
            finally:
                self._store.release(queue, self._name)
            for ferry in self._ferries:
                while carried := ferry.carry():
                    report.moved += carried
                    self.progress()
        finally:
            self._look(report)

    def _find(self, report: Moved) -> None:
        report.found = {name: count for name, count in self._look(report).items() if count > 0}

    def _take_over(self, queue: str) -> None:
        """What workers held whose leases have ended, as the sweep of another worker would.

        Redis may have been away: who lives has had the time to renew its lease then, or what it holds stays with it.
        """
        lease_seconds = self._channel.config.of(queue).lease_seconds
        if self._uptime() < lease_seconds:
            return
        if self._has_ended(queue):
            while (left := self._began + RENEWAL * lease_seconds - monotonic()) > 0:
                sleep(min(left, LOOK_EVERY))
                self.progress()
        try:
            while self._store.sweep(queue, lease_seconds, self._name).recoveries:
                pass
        finally:
            self._store.leave_sweep(queue, self._name)

    def _has_ended(self, queue: str) -> bool:
        """Whether the lease of a consumer has."""
        glance = Look(self._store).glance(queue)
        return any(end <= glance.now_ms for _, _, end in glance.consumers.values())

    def _uptime(self) -> float:
        """For how many seconds the server runs, as far as this user may know."""
        try:
            return self._store.client.info('server')['uptime_in_seconds']
        except NoPermissionError:
            return inf

    def _look(self, report: Moved) -> dict[str, int]:
        """Returns how many tasks there are to move, by where they are."""
        glance = Look(self._store).glance(report.queue)
        holders = {name: (held, end) for name, (_, held, end) in glance.consumers.items() if held}
        report.held = sum(held for held, _ in holders.values())
        report.holders = {name: max(0.0, (end - glance.now_ms) / 1000) for name, (_, end) in holders.items()}
        report.dead, report.cancelled = glance.dead, self._store.count_cancelled(report.queue)
        found = {'about to be delivered': glance.egress - report.held, 'waiting': glance.waiting,
                 'delayed': glance.delayed}
        if not self.same_database and (count := all_under_way(self._stock, self._store, report.to)):
            found['under way'] = count
        report.left = sum(found.values())
        return found

    def _move_waiting(self, report: Moved, steps: list[int], targets: list[str]) -> None:
        queue, blanks, size, more = report.queue, 0, MOST, True
        lease_seconds = self._channel.config.of(queue).lease_seconds
        while more and blanks < MOST_BLANKS:
            claimed, more = self._store.claim(queue, self._name, size, lease_seconds)
            blanks = 0 if claimed else blanks + 1
            # With no slots of its own, what waits in egress is asked for until there is none.
            more = more or bool(claimed)
            if claimed:
                self._leave(report, steps, targets, [
                    ('egress', each.entry_id, each) for each in claimed])

    def _move_delayed(self, report: Moved, steps: list[int], targets: list[str]) -> None:
        store, queue = self._store, report.queue
        after: tuple[str, Union[int, str]] = ('', '')
        while page := store.delayed(queue, after, MOST):
            after = page[-1].place, page[-1].due_ms
            report.delayed += self._leave(report, steps, targets, [
                ('delayed', each.place, Delivery(queue, each.place, each.fields)) for each in page])

    def _leave(self, report: Moved, steps: list[int], targets: list[str],
               tasks: Iterable[tuple[str, str, Delivery]]) -> int:
        queue = report.queue
        moves, bad = [], []
        for kind, name, delivery in tasks:
            try:
                message = message_of(delivery, report.to if report.to != queue else None)
            except ValueError as exc:
                report.note(f'an entry is no task: {exc}')
                report.malformed += 1
                bad.append((kind, name))
            else:
                moves.append((kind, name, steps.index(self._stock.step_of(message)), dumps(message).encode()))
        lease_seconds = self._channel.config.of(queue).lease_seconds
        moved = self._store.leave(queue, self._name, lease_seconds, targets, moves) if moves else 0
        self._store.bury(queue, [name for kind, name in bad if kind == 'egress'], 'malformed: it is no message')
        if self._ferries:
            # It has moved when it is there.
            report.moved += sum(self._ferries[number].carry() for number in {target for _, _, target, _ in moves})
        else:
            report.moved += moved
        self.progress()
        return moved
