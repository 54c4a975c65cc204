"""Sends a load's tasks in time, one thread a tenant, and remembers what was sent."""
from __future__ import annotations

from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic, time
from typing import Optional

from celery import Celery

from .app import TASK
from .load import Sender

__all__ = ('Ledger', 'Producer', 'Sent')


@dataclass(frozen=True)
class Sent:
    """A published task."""

    tenant: str
    #: When, on the wall clock.
    at: float


class Ledger:
    """All published tasks; a task's number is its place."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._lock = Lock()

    def add(self, tenant: str) -> tuple[int, float]:
        """Note a task that is published now; returns its number and the time."""
        with self._lock:
            self.sent.append(Sent(tenant, time()))
            return len(self.sent) - 1, self.sent[-1].at


class Producer(Thread):
    """Publishes one sender's tasks.

    Arguments:
        seconds: how long batches begin; one that has begun is sent to its end, so that equal senders send equally much.
    """

    def __init__(self, app: Celery, sender: Sender, seconds: float, ledger: Ledger) -> None:
        super().__init__(name=f'producer {sender.tenant}', daemon=True)
        self.app, self.sender, self.seconds, self.ledger = app, sender, seconds, ledger
        self.error: Optional[Exception] = None
        self._stopped = Event()

    def run(self) -> None:
        try:
            began, due = monotonic(), self.sender.first
            while due < self.seconds and not self._stopped.wait(max(0.0, began + due - monotonic())):
                self._send_batch()
                due += self.sender.every
        except Exception as exc:
            self.error = exc

    def _send_batch(self) -> None:
        for _ in range(self.sender.tasks):
            if self._stopped.is_set():
                return
            number, published = self.ledger.add(self.sender.tenant)
            # By its task object, which knows how to find the tenant.
            self.app.tasks[TASK].delay(self.sender.tenant, number, published)

    def stop(self) -> None:
        """Send no more, wherever it is."""
        self._stopped.set()
