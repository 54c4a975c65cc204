"""What is to be reached, as data."""
from __future__ import annotations

from typing import NamedTuple

from .figures import LONG, LONGEST, LONGEST_FIRST

__all__ = ('Target', 'TARGETS')


class Target(NamedTuple):
    """A bound for a figure of celery-qos, or for its ratio to another broker's in the same round."""

    workload: str
    case: str
    name: str
    #: The other broker; '' where the figure itself is bound.
    per: str
    #: '>=' or '<='.
    sign: str
    bound: float

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.sign == '>=' else value <= self.bound


TARGETS = (
    Target('drain', 'solo, default ack', 'rate', 'redis', '>=', 4.0),
    Target('drain', 'threads, default ack', 'rate', 'redis', '>=', 3.5),
    Target('drain', 'gevent, default ack', 'rate', 'redis', '>=', 3.0),
    Target('drain', 'prefork, default ack', 'rate', 'redis', '>=', 2.0),
    Target('drain', 'prefork, late ack', 'rate', 'redis', '>=', 1.8),
    Target('drain', 'solo, default ack', 'rate', 'rabbitmq', '>=', 1.5),
    Target('drain', 'prefork, default ack', 'rate', 'rabbitmq', '>=', 1.0),
    Target('publish', 'single, 1 KB', 'rate', 'redis', '>=', 1.4),
    Target('publish', 'group, 1 KB', 'rate', 'redis', '>=', 2.5),
    Target('publish', 'single, 1 KB', 'rate', 'rabbitmq', '>=', 0.8),
    Target('publish', 'group, 1 KB', 'rate', 'rabbitmq', '>=', 1.0),
    Target('latency', 'solo, idle', 'wait, p50', 'redis', '<=', 1.0),
    Target('latency', 'solo, idle', 'wait, p99', 'redis', '<=', 1.0),
    Target('latency', 'prefork, idle', 'wait, p50', 'redis', '<=', 1.0),
    Target('latency', 'prefork, idle', 'wait, p99', 'redis', '<=', 1.0),
    *(Target('latency', f'{pool}, back to back', 'gap, max', '', '<=', 20.0)
      for pool in ('solo', 'threads', 'prefork', 'gevent')),
    Target('drain', 'solo, default ack, 4 workers', 'wake-ups', '', '<=', 1.2),
    Target('drain', 'solo, default ack, 8 workers', 'wake-ups', '', '<=', 1.2),
    # Of 40 to 60 MB: a leak of 10 bytes a task would show.
    Target('memory', '1,000,000 tasks of 100,000 tenants', 'growth after 20%', '', '<=', 4.0),
    # The longest of all cases, ms.
    Target('', '', LONGEST, '', '<=', LONG),
    Target('', '', LONGEST_FIRST, '', '<=', LONG),
)
