"""Keeps what a pool of threads or greenlets was handed, and has not begun, from beginning."""
from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

__all__ = ('Gate',)

#: The pools that do not run a task whose accept callback raises, and the exception that they pass over in silence.
_GREEN = ('celery.concurrency.gevent', 'celery.concurrency.eventlet')
_THREADS = ('celery.concurrency.thread',)


class _HandedBack(Exception):
    """Not run here: it was handed back before it began."""


class Gate:
    """A request passes when it begins, or is taken back before: whoever removes its entry has it, in any thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, Any] = {}
        self._refusal: type[BaseException] = _HandedBack

    def guard(self, pool: Any) -> None:
        """Have what `pool` is handed from now on pass here; other pools than those of Celery's own are left alone."""
        kind = type(pool).__module__
        if kind in _GREEN:
            self._refusal = import_module('greenlet').GreenletExit
        elif kind not in _THREADS:
            return
        apply_async = pool.apply_async

        def apply_through_gate(target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            request = getattr(options.get('accept_callback'), '__self__', None)
            tag = getattr(getattr(request, 'message', None), 'delivery_tag', None)
            if tag is not None:
                self._waiting[tag] = request
                options['accept_callback'] = _Passage(self, request, tag).on_accepted
            return apply_async(target, args, kwargs, **options)

        pool.apply_async = apply_through_gate

    def passes(self, tag: str) -> None:
        """The request begins.

        Raises:
            BaseException: it was taken back.
        """
        if self._waiting.pop(tag, None) is None:
            raise self._refusal()

    def take_back(self, pool: Any) -> Iterator[Any]:
        """The requests that have not begun, and will not."""
        green = getattr(pool, '_pool', None)
        # A full green pool has whoever hands it a task wait for room, and the worker's loop with it.
        semaphore = getattr(green, '_semaphore', None) or getattr(green, 'sem', None)
        for tag in list(self._waiting):
            request = self._waiting.pop(tag, None)
            if request is not None:
                yield request
                if semaphore is not None:
                    semaphore.release()


class _Passage:
    """Stands for a request before its pool: its accept callback passes the gate first."""

    __slots__ = ('message', '_gate', '_request', '_tag')

    def __init__(self, gate: Gate, request: Any, tag: str) -> None:
        #: As the request has it.
        self.message = request.message
        self._gate, self._request, self._tag = gate, request, tag

    def on_accepted(self, *args: Any, **kwargs: Any) -> Any:
        self._gate.passes(self._tag)
        return self._request.on_accepted(*args, **kwargs)
