"""Threads and locks of the operating system, also where gevent or eventlet replaced those of the standard library.

A lease must be renewed while a task keeps the event loop busy, so its thread must not be a greenlet of that loop.
"""
from __future__ import annotations

import sys
from typing import Any

__all__ = ('start_thread', 'allocate_lock')


def _original(name: str) -> Any:
    """`name` of the module ``_thread``, as it was before any monkey patching."""
    if 'gevent.monkey' in sys.modules:
        from gevent.monkey import get_original
        return get_original('_thread', name)
    if 'eventlet.patcher' in sys.modules:
        from eventlet.patcher import original
        return getattr(original('_thread'), name)
    import _thread
    return getattr(_thread, name)


def start_thread(function: Any) -> None:
    """Run `function` in a daemon thread."""
    _original('start_new_thread')(function, ())


def allocate_lock() -> Any:
    return _original('allocate_lock')()
