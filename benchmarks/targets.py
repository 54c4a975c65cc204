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
    # A little more than the bounds: a worker asks once more than it is answered.
    Target('counts', 'publish, 1 KB', 'round trips', '', '<=', 1.01),
    *(Target('counts', f'{pool}, prefetch {prefetch}, {ack} ack', 'round trips', '', '<=', bound)
      for pool in ('solo', 'threads', 'gevent', 'prefork') for ack in ('early', 'late')
      for prefetch, bound in ((1, 2.01), (8, 0.5))),
    Target('counts', 'publish, 100 KB', 'bytes there', '', '<=', 105_000),
    Target('counts', 'solo, prefetch 8, early ack, 100 KB', 'bytes to the worker', '', '<=', 105_000),
    Target('counts', 'idle worker', 'commands', '', '<=', 1.05),
    Target('counts', '4 idle workers', 'reads', '', '<=', 1.2),
    Target('scale', 'publisher and worker', 'both, scripts and commands', 'redis', '<=', 1.0),
    *(Target('scale', '100,000 tenants', f'{what}, per 10 tenants', '', '<=', 1.5)
      for what in ('publish', 'settle and read')),
    # 5 KB and the task.
    Target('scale', '100,000 tenants', 'memory a tenant with one task', '', '<=', 5 * 1024 + 720),
    # Of a measurement that is not exact to the byte; that nothing names the tenant is asserted.
    Target('scale', 'memory, 10,000 tasks', 'an idle tenant', '', '<=', 16),
    # The longest of all cases, ms.
    Target('', '', LONGEST, '', '<=', LONG),
    Target('', '', LONGEST_FIRST, '', '<=', LONG),
)
