"""Waits for conditions, never for durations."""
from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any


def until(condition: Callable[[], Any], timeout: float = 20.0, what: str = '') -> Any:
    """The first true value of `condition`; fails after `timeout` seconds."""
    deadline = monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert monotonic() < deadline, f'not within {timeout:g} s: {what or condition}'
        sleep(0.01)
