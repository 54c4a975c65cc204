"""The bootstep: tells the transport what Celery's worker knows, and Celery's worker what the transport knows."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from celery import Task, bootsteps, signals
from celery.platforms import EX_FAILURE
from celery.worker import state
from celery.worker.consumer.tasks import Tasks
from kombu.log import get_logger

from ..scripts import WrongType
from ..transport import Transport
from . import panel
from .discarded import Discarded
from .handback import HandBack, eta_entries, requests_of
from .lease import Lease, keep_nothing
from .poison import guard
from .runs import Run, watch

__all__ = ('Slots',)

logger = get_logger(__name__)


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
        self._hand_back = HandBack(consumer)
        signals.worker_shutting_down.connect(self._on_shutting_down, sender=consumer.hostname)
        _call_before(consumer.controller, 'wait_for_soft_shutdown', self._on_cold_shutdown)
        close = consumer.blueprint.on_close
        consumer.blueprint.on_close = lambda: self._before_close(consumer, close)
        guard(consumer)
        # Somebody overwrote a key: the worker says so and tries again, as where the server is away.
        consumer.connection_errors = (*consumer.connection_errors, WrongType)

    def start(self, consumer: Any) -> None:
        consumer.on_close = lambda: self._before_reconnect(consumer)
        channel = self._channel = consumer.task_consumer.channel
        self._lease = channel.join(self._holds)
        self._lease.skips = _is_revoked
        self._lease.suspects = lambda: _at_work_on(consumer)
        channel.discarded = Discarded(channel)
        self._lease.announce = channel.discarded.announce
        channel.update_slots(channel.reader.queues)
        self._hand_back.attach(channel)
        channel.connection.cycle.drive(consumer.timer.call_after)
        _ack_at_once(consumer, channel.connection.cycle)

    def stop(self, consumer: Any) -> None:
        """The worker takes no more work: its event loop ends, so acks must not wait for the loop's next turn."""
        if consumer.connection:
            consumer.connection.transport.cycle.leave_loop()
            self._channel.flush()

    def shutdown(self, consumer: Any) -> None:
        if self._lease is not None:
            self._lease.keep = keep_nothing

    def _on_shutting_down(self, **kwargs: Any) -> None:
        """A signal: a solo or green pool may run a task to its end before the worker takes notice."""
        self._hand_back.begin()

    def _on_cold_shutdown(self) -> None:
        """A signal, soft or cold: Celery waits for running tasks now, and cancels them then."""
        self._hand_back.begin()
        if state.should_stop is None or state.should_stop is False:
            # Where a pool cannot cancel a task, or wait in a signal's handler, Celery gives up to stop, before 5.6 for
            # good. Who was handed back everything has to.
            state.should_stop = EX_FAILURE

    def _before_close(self, consumer: Any, close: Callable[[], None]) -> None:
        """The worker stops for good, and Celery forgets what its pool has not started."""
        self._hand_back.begin(stopped=True)
        jobs = _jobs(consumer.pool)
        # A process runs what it was sent, so its end must be waited for.
        sent = {number: job for number, job in jobs.items() if job._write_to is not None} if jobs else {}
        close()
        if jobs is not None:
            jobs.update((number, job) for number, job in sent.items() if not job.ready())

    def _runs(self) -> dict[str, Run]:
        return self._lease.runs if self._lease is not None else {}

    def _holds(self, tag: str) -> bool:
        return tag in self._held

    def _before_reconnect(self, consumer: Any) -> None:
        """The connection is lost, and Celery drops what its pool has not started: note what goes on nevertheless."""
        # By their tags: a retry, or what replaces a task, has the id of the one that may still run.
        dropped = [request for bucket in consumer.task_buckets.values() if bucket for request, _ in bucket.contents]
        for entry in eta_entries(consumer.timer):
            dropped += requests_of(entry)
            consumer.timer.cancel(entry)
        jobs = _jobs(consumer.pool)
        if not isinstance(jobs, dict):
            # Any pool but prefork runs all that it was handed; what has ended by now, Celery will still ack.
            held = list(self._lease.held.items()) if self._lease is not None else []
            self._on_close()
            self._held = {tag for tag, message in held if message is not None}
            self._held.difference_update(request.message.delivery_tag for request in dropped)
            return
        # Celery before 5.6 drops running tasks from the pool's account too, and then never acks them; later releases
        # drop those that a child was sent and has not reported as started (celery#8091).
        started = {number: job for number, job in jobs.items() if job._accepted or job._write_to is not None}
        # A batch that celery-batches has made of many tasks is no request's. It goes on, as what it still gathers does.
        unsent = [job for job in consumer.pool._pool.outbound_buffer or () if _request_of(job) is None]
        self._on_close()
        jobs.update((number, job) for number, job in started.items() if not job.ready())
        jobs.update((job._job, job) for job in unsent)
        consumer.pool._pool.outbound_buffer.extend(unsent)
        # What Celery cancels as the connection is lost, it never acks.
        requests = [_request_of(job) for job in started.values() if job._terminated is None]
        self._held = {request.message.delivery_tag for request in requests if request is not None}
        self._held.update(self._kept_by_tasks(consumer))

    def _kept_by_tasks(self, consumer: Any) -> set[str]:
        """What a task gathers, before or after it has made it a batch: a lost connection takes nothing from it."""
        if self._lease is None:
            return set()
        own = {name for name, task in consumer.app.tasks.items() if task.Strategy != Task.Strategy}
        return {tag for tag, message in list(self._lease.held.items())
                if message is not None and message['headers'].get('task') in own}


def _jobs(pool: Any) -> Any:
    """Number to job of all that the prefork pool has; None of another pool."""
    return getattr(getattr(pool, '_pool', None), '_cache', None)


def _request_of(job: Any) -> Any:
    """What the prefork pool runs, or the gate's passage to it, which has the same message; None of anything else."""
    return getattr(job._accept_callback, '__self__', None)


def _at_work_on(consumer: Any) -> int:
    """How many unacknowledged tasks the worker may be running: of those that are acknowledged early, one at most."""
    if not any(task.acks_late for task in list(consumer.app.tasks.values())):
        return 1
    try:
        # Before Celery 5.7, gevent's pool says as its number of processes how many tasks it runs right now.
        return max(1, getattr(consumer.pool._pool, 'size', 0) or consumer.pool.num_processes)
    except AttributeError:      # prefork's pool has stopped; the lease goes on until the channel closes
        return 1


def _is_revoked(message: Any) -> bool:
    """Celery's worker discards it instead of running it; what has expired, it revokes too."""
    return message['headers'].get('id') in state.revoked


def _call_before(owner: Any, name: str, first: Callable[[], None]) -> None:
    """Have `first` called before the method of that name, where there is one."""
    method = getattr(owner, name, None)
    if method is None:
        return

    def call(*args: Any, **kwargs: Any) -> Any:
        first()
        return method(*args, **kwargs)

    setattr(owner, name, call)


def _ack_at_once(consumer: Any, poller: Any) -> None:
    """An ack only takes note, in any thread: it need not wait for the loop's next turn, which is 6% of a no-op task.

    Celery before 5.7 lets other callbacks from a pool's thread wait until something else wakes the event loop.
    """
    call_soon = type(consumer).call_soon

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(function, '__name__', '') not in ('ack_log_error', 'reject_log_error'):
            promise = call_soon(consumer, function, *args, **kwargs)
            poller.wake()
            return promise
        try:
            return function(*args, **kwargs)
        except Exception:
            logger.exception('cannot settle a task')

    # Celery before 5.6 has the first only.
    consumer.call_soon = consumer.call_soon_ack = call
