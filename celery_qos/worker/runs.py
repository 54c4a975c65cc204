"""Tracked tasks: when one leaves its slot, when it ends and how long it ran, on every pool, however it ends."""
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from ..store import Tracked
    from .settler import Settler

__all__ = ('Run', 'watch')


class Run:
    """One tracked delivery, until the server has been told all about it. Thread-safe.

    Early ack comes while the task runs: it leaves its slot, but still counts as in flight until it has ended. Late
    ack comes after the end. The two come from different threads, so either may be first in both modes.

    Arguments:
        consumer: the name under which it was delivered.
        settler: what tells the server.
    """

    __slots__ = ('queue', 'consumer', '_task', '_settler', '_handed', '_settled', '_ended', '_lock')

    def __init__(self, queue: str, consumer: str, task: Tracked, settler: Settler) -> None:
        self.queue, self.consumer = queue, consumer
        self._task, self._settler = task, settler
        self._handed = self._settled = self._ended = False
        # A signal's handler may settle in the middle of an end, and so may the garbage collector.
        self._lock = threading.RLock()

    def hand_over(self) -> None:
        """A pool has it, and says when it ends."""
        self._handed = True

    def settle(self, skipped: bool = False) -> None:
        """It is acked, or rejected for good; `skipped` where it is sure that it never ran, if no pool had it."""
        with self._lock:
            self._settled = True
            if self._handed and not self._ended:
                self._settler.started(self.queue, self.consumer, self._task)
            else:
                if skipped and not self._handed:
                    self._task = self._task._replace(seconds=0.0)
                self._settler.finished(self.queue, self.consumer, self._task)

    def end(self, seconds: Optional[float]) -> bool:
        """It ran for so long, None where nobody knows; only the first call counts.

        Returns:
            Whether there is something to send now: an end before the ack is sent with the ack.
        """
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            self._task = self._task._replace(seconds=seconds)
            if self._settled:
                self._settler.finished(self.queue, self.consumer, self._task)
            return self._settled


def watch(pool: Any, runs: Callable[[], Mapping[str, Run]], send: Callable[[], None]) -> None:
    """Have the end of each tracked task noted that `pool` is handed from now on.

    Celery's requests look `apply_async` up when their strategies are built, which is at each connection.

    Arguments:
        runs: returns the runs in hand, by delivery tag.
        send: what an end calls that the server should hear of now.
    """
    apply_async = pool.apply_async

    def apply_and_watch(target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        if in_hand := runs():
            request = getattr(options.get('accept_callback'), '__self__', None)
            run = in_hand.get(getattr(getattr(request, 'message', None), 'delivery_tag', ''))
            if run is not None:
                options.update(_Watch(run, send, options).callbacks)
        return apply_async(target, args, kwargs, **options)

    pool.apply_async = apply_and_watch


class _Watch:
    """Stands between a pool and the callbacks of a request, and dies with the pool's last reference to the task."""

    def __init__(self, run: Run, send: Callable[[], None], options: Mapping[str, Any]) -> None:
        self._run, self._send = run, send
        self._accept, self._success = options['accept_callback'], options.get('callback')
        self._error, self._timeout = options.get('error_callback'), options.get('timeout_callback')
        #: As the request has it.
        self.message = getattr(getattr(self._accept, '__self__', None), 'message', None)
        self._pid = os.getpid()
        self._began: Optional[float] = None
        run.hand_over()

    @property
    def callbacks(self) -> dict[str, Any]:
        return {'accept_callback': self._on_accepted, 'callback': self._on_success,
                'error_callback': self._on_failure, 'timeout_callback': self._on_timeout}

    def _on_accepted(self, *args: Any, **kwargs: Any) -> Any:
        self._began = monotonic()
        return self._accept(*args, **kwargs)

    def _on_success(self, result: Any, **kwargs: Any) -> Any:
        # Celery's tracer gives failure, value and run time; a pool gives less for a task that it had to end.
        runtime = result[2] if isinstance(result, tuple) and len(result) == 3 else None
        return self._pass_on(self._success, self._elapsed if runtime is None else runtime, result, **kwargs)

    def _on_failure(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass_on(self._error, self._elapsed, *args, **kwargs)

    def _on_timeout(self, soft: bool, timeout: Any) -> Any:
        if not soft:
            return self._pass_on(self._timeout, self._elapsed, soft=soft, timeout=timeout)
        return self._timeout and self._timeout(soft=soft, timeout=timeout)

    @property
    def _elapsed(self) -> Optional[float]:
        """Seconds since a child, thread or greenlet began with it."""
        return None if self._began is None else monotonic() - self._began

    def _pass_on(self, callback: Any, seconds: Optional[float], *args: Any, **kwargs: Any) -> Any:
        to_send = self._run.end(seconds)
        try:
            return callback and callback(*args, **kwargs)
        finally:
            if to_send:
                self._send()

    def __del__(self) -> None:
        # The pool has dropped the task without a word, such as one whose thread ended with a MemoryError: a place
        # in flight must not go with it. A forked child drops what its parent runs. Whoever sends next, sends this:
        # the garbage collector may be here in the middle of a sending.
        if self._pid == os.getpid():
            self._run.end(self._elapsed)
