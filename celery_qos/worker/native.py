"""Threads and locks of the operating system, also where gevent or eventlet replaced those of the standard library.

A lease must be renewed while a task keeps the event loop busy, so its thread must not be a greenlet of that loop.
"""
from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ('start_thread', 'allocate_lock', 'wait_readable')


def _original(name: str, module: str = '_thread') -> Any:
    """`name` of the module, as it was before any monkey patching."""
    if 'gevent.monkey' in sys.modules:
        from gevent.monkey import get_original
        return get_original(module, name)
    if 'eventlet.patcher' in sys.modules:
        from eventlet.patcher import original
        return getattr(original(module), name)
    return getattr(import_module(module), name)


def start_thread(function: Any) -> None:
    """Run `function` in a daemon thread."""
    _original('start_new_thread')(function, ())


def allocate_lock() -> Any:
    return _original('allocate_lock')()


def wait_readable(sock: Any, seconds: float) -> None:
    """Wait until there is something to read, in this thread only.

    A greenlet that waits in a thread of its own as the interpreter ends has gevent crash now and then.
    """
    poll = _original('poll', 'select')()
    poll.register(sock.fileno(), 1)     # POLLIN
    poll.poll(max(0, int(seconds * 1000) + 1))
