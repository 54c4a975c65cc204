"""The bootstep: tells the transport what Celery's worker knows, and Celery's worker what the transport knows."""
from __future__ import annotations

from typing import Any, Optional

from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request

from ..transport import Transport
from . import panel
from .discarded import Discarded
from .lease import Lease, keep_nothing
from .runs import Run, watch

__all__ = ('Slots',)


class Slots(bootsteps.StartStopStep):
    """Keeps running tasks with their worker across a reconnect.

    The slots themselves follow the channel's prefetch count, and leave with the channel.
    """

    requires = (Tasks,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._held: set[str] = set()
        self._lease: Optional[Lease] = None
        self._channel: Any = None
        self._on_close = consumer.on_close
        super().__init__(consumer, **kwargs)

    def include_if(self, consumer: Any) -> bool:
        return issubclass(consumer.conninfo.get_transport_cls(), Transport)

    def create(self, consumer: Any) -> None:
        # Before the strategies are built, which take the pool's method as they find it.
        watch(consumer.pool, self._runs, lambda: self._channel.flush_soon())
        panel.install()

    def start(self, consumer: Any) -> None:
        consumer.on_close = lambda: self._before_reconnect(consumer)
        channel = self._channel = consumer.task_consumer.channel
        self._lease = channel.join(self._holds)
        self._lease.skips = _is_revoked
        self._lease.suspects = lambda: _at_work_on(consumer)
        channel.discarded = Discarded(channel)
        self._lease.announce = channel.discarded.announce
        channel.update_slots(channel.reader.queues)
        _wake_for_callbacks(consumer, channel.connection.cycle)

    def stop(self, consumer: Any) -> None:
        """The worker takes no more work: its event loop ends, so acks must not wait for the loop's next turn."""
        if consumer.connection:
            consumer.connection.transport.cycle.leave_loop()

    def shutdown(self, consumer: Any) -> None:
        if self._lease is not None:
            self._lease.keep = keep_nothing

    def _runs(self) -> dict[str, Run]:
        return self._lease.runs if self._lease is not None else {}

    def _holds(self, message: Any) -> bool:
        return message['headers'].get('id') in self._held

    def _before_reconnect(self, consumer: Any) -> None:
        """The connection is lost, and Celery drops what its pool has not started: note what goes on nevertheless."""
        for entry in _eta_entries(consumer.timer):
            consumer.timer.cancel(entry)
        reserved = {request.id for request in tuple(state.reserved_requests)}
        jobs = getattr(getattr(consumer.pool, '_pool', None), '_cache', None)
        if not isinstance(jobs, dict):
            # Any pool but prefork runs all that it was handed.
            self._on_close()
            self._held = reserved
            return
        # Celery before 5.6 drops running tasks from the pool's account too, and then never acks them; later releases
        # drop those that a child was sent and has not reported as started (celery#8091).
        started = {number: job for number, job in jobs.items() if job._accepted or job._write_to is not None}
        self._on_close()
        jobs.update(started)
        # What Celery cancels as the connection is lost, it never acks.
        self._held = {job.correlation_id for job in started.values() if job._terminated is None}


def _at_work_on(consumer: Any) -> int:
    """How many unacknowledged tasks the worker may be running: of those that are acknowledged early, one at most."""
    late = any(task.acks_late for task in list(consumer.app.tasks.values()))
    return max(1, consumer.pool.num_processes) if late else 1


def _is_revoked(message: Any) -> bool:
    """Celery's worker discards it instead of running it; what has expired, it revokes too."""
    return message['headers'].get('id') in state.revoked


def _eta_entries(timer: Any) -> list[Any]:
    """The timer's entries that would start a task later."""
    return [scheduled.entry for scheduled in list(timer.queue)
            if any(isinstance(argument, Request) for argument in getattr(scheduled.entry, 'args', None) or ())]


def _wake_for_callbacks(consumer: Any, poller: Any) -> None:
    """Celery before 5.7 lets an ack from a pool's thread wait until something else wakes the event loop."""
    call_soon = type(consumer).call_soon

    def call_soon_and_wake(*args: Any, **kwargs: Any) -> Any:
        promise = call_soon(consumer, *args, **kwargs)
        poller.wake()
        return promise

    consumer.call_soon = call_soon_and_wake
