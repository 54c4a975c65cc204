"""The pools that most tests run on, and which of them run with the oldest releases too."""
from __future__ import annotations

import pytest

__all__ = ('POOLS', 'EVERY_POOL')

#: Processes and greenlets are what releases of Celery treat differently.
POOLS = ['prefork', 'gevent', *(pytest.param(pool, marks=pytest.mark.once) for pool in ('threads', 'solo'))]
EVERY_POOL = [*POOLS, pytest.param('eventlet', marks=pytest.mark.once)]
