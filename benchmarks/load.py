"""Publishes, in a process of its own: a fresh one for each measurement, so that no state leaks into the next.

The program prints what it did as JSON; `load` runs it and gives that back.
"""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic, perf_counter, process_time, sleep
from typing import TYPE_CHECKING, Any

from .figures import BenchmarkError

if TYPE_CHECKING:
    from .brokers import Broker

__all__ = ('load', 'loading', 'Loading', 'WARM_UP')

#: Tasks are published for so many tenants in turn where a workload does not say more.
TENANTS = 10
#: Number of the task with which a publisher warms up.
WARM_UP = -1
#: Seconds that a publisher may take.
_TIMEOUT = 3600.0


class Loading:
    """A publisher that runs."""

    def __init__(self, broker: Broker, function: str, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__, function, json.dumps(options)], env=broker.environment(),
            cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def result(self, timeout: float = _TIMEOUT) -> Any:
        """What it printed, when it has ended."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f'a publisher did not end within {timeout:g} s') from None
        if self._process.returncode:
            raise BenchmarkError(f'a publisher failed:\n{err.decode(errors="replace")}')
        return json.loads(out)

    def check(self) -> None:
        """Raise `BenchmarkError` where it has failed."""
        if self._process.poll():
            self.result()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def loading(broker: Broker, function: str, /, **options: Any) -> Iterator[Loading]:
    """Publish, by the function of that name below, while the block runs."""
    publisher = Loading(broker, function, options)
    try:
        yield publisher
    finally:
        publisher.stop()


def load(broker: Broker, function: str, /, **options: Any) -> Any:
    """Publish, and give back what the function of that name below does."""
    with loading(broker, function, **options) as publisher:
        return publisher.result()


def single(number: int, size: int) -> float:
    """Seconds that it takes to call `delay` so many times, with `size` bytes to carry."""
    from .app import noop
    payload = 'x' * size
    began = perf_counter()
    for task in range(number):
        noop.delay(task % TENANTS, task, payload)
    return perf_counter() - began


def group(number: int, size: int, members: int = 100) -> float:
    """The same, in groups."""
    import celery

    from .app import noop
    payload = 'x' * size
    began = perf_counter()
    for first in range(0, number, members):
        celery.group(noop.s(task % TENANTS, task, payload) for task in range(first, first + members)).delay()
    return perf_counter() - began


def bulk(number: int, size: int, tenants: int = TENANTS, first: int = 0) -> float:
    """The same, with one producer held; also what fills a queue."""
    from .app import app, noop
    payload = 'x' * size
    began = perf_counter()
    with app.producer_pool.acquire(block=True) as producer:
        for task in range(first, first + number):
            noop.apply_async((task % tenants, task, payload), producer=producer)
    return perf_counter() - began


def throttled(number: int, size: int, tenants: int, records: str, ahead: int) -> None:
    """Publish that many tasks, but stay no more than `ahead` of the runs in a file of records."""
    from .records import count
    for first in range(0, number, ahead // 2):
        while first - count(records) > ahead // 2:
            sleep(0.005)
        bulk(min(ahead // 2, number - first), size, tenants, first)


def spaced(tenants: Sequence[str], every: float, seconds: float = 0.0, first: int = 0, at_random: bool = False,
           seed: int = 1) -> list[float]:
    """Publish a task for each of `tenants`, one after the other, and give back when, by `time.monotonic`.

    Arguments:
        every: seconds from one to the next, on average.
        seconds: that each takes.
        first: number of the first task.
        at_random: whether the times between are those of a Poisson process, else even but for a quarter.
    """
    from .app import work
    random = Random(seed)
    work.delay('warm-up', WARM_UP, 0.0)
    at, times = monotonic(), []
    for number, tenant in enumerate(tenants, first):
        at += random.expovariate(1 / every) if at_random else every * random.uniform(0.75, 1.25)
        sleep(max(0.0, at - monotonic()))
        times.append(monotonic())
        work.delay(tenant, number, seconds)
    return times


def backlog(tenants: Sequence[str], number: int, seconds: float) -> None:
    """Publish `number` tasks of so many seconds each, for `tenants` in turn."""
    from .app import app, work
    with app.producer_pool.acquire(block=True) as producer:
        for task in range(number):
            work.apply_async((tenants[task % len(tenants)], task, seconds), producer=producer)


def timed(how: str, number: int, size: int) -> tuple[float, float]:
    """What the function of that name gives, after a warm-up; and the seconds of CPU of this process."""
    _PUBLISH[how](100, size)
    began = process_time()
    seconds = _PUBLISH[how](number, size)
    return seconds, process_time() - began


_PUBLISH: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (timed, single, group, bulk, throttled, spaced, backlog)}


def main(function: str, options: str) -> None:
    print(json.dumps(_PUBLISH[function](**json.loads(options))))


if __name__ == '__main__':
    main(*sys.argv[1:])
