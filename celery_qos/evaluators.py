"""Evaluators: how urgent a task is, in percent, which decides the sub-queue it goes to.

An evaluator is any callable of the task's message, a dict with ``headers``, ``properties`` and the serialized ``body``,
that returns a number from 0 to 100. The sub-queues share these 100 by their ingress weights, the first declared one
from 0 on.
"""
from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import count
from math import inf
from typing import Any, Optional, Union

from .checks import unknown
from .errors import ConfigError
from .imported import imported

__all__ = ('Weighted', 'Random', 'RoundRobin', 'named', 'percent_of')

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]
Evaluator = Callable[[Message], Any]


class Weighted:
    """The percentage that a task's own weight is of a maximum; more is 100, less than nothing is 0.

    Arguments:
        maximum: the weight that is 100 percent.
        weight: the header that holds it, as in ``apply_async(headers={'weight': 30})``; or a callable of the message.
        default: the weight of a task without that header, or for which the callable returns None.
    """

    def __init__(self, maximum: float = 100.0, weight: Union[str, Callable[[Message], Any]] = 'weight',
                 default: float = 0.0) -> None:
        if not _is_number(maximum) or not 0 < maximum < inf:
            raise ConfigError(f'maximum: {maximum!r} is not a number above 0')
        if not isinstance(weight, str) and not callable(weight):
            raise ConfigError(f'weight: {weight!r} is neither the name of a header nor a callable')
        if not _is_number(default) or not -inf < default < inf:
            raise ConfigError(f'default: {default!r} is not a number')
        self.maximum, self.weight, self.default = maximum, weight, default

    def __call__(self, message: Message) -> float:
        if isinstance(self.weight, str):
            weight = (message.get('headers') or {}).get(self.weight)
        else:
            weight = self.weight(message)
        percent = 100 * float(self.default if weight is None else weight) / self.maximum
        # NaN stays what it is, so that it is noticed.
        return percent if percent != percent else min(max(percent, 0.0), 100.0)


class Random:
    """Any percentage, each as likely; for tests and to spread load.

    Arguments:
        seed: makes the sequence the same each time.
    """

    def __init__(self, seed: Union[None, int, float, str, bytes] = None) -> None:
        self.seed = seed
        # Processes that fork must not all draw the same: Python seeds the module's own generator anew in each.
        self._uniform = random.uniform if seed is None else random.Random(seed).uniform

    def __call__(self, message: Message) -> float:
        return self._uniform(0, 100)

    def __reduce__(self) -> Any:
        return type(self), (self.seed,)


class RoundRobin:
    """1, 2, ... 100 percent and again: of every 100 tasks the sub-queues get exactly their ingress shares.

    Threads may share one. It counts the tasks of its process, over all queues that it is given to.
    """

    def __init__(self) -> None:
        # One step of this iterator is atomic, and unlike a lock it cannot be held across a fork.
        self._numbers = count()

    def __call__(self, message: Message) -> float:
        return float(next(self._numbers) % 100 + 1)

    def __reduce__(self) -> Any:
        return type(self), ()


#: What a name in plain data stands for.
NAMES = {'weighted': Weighted, 'random': Random, 'round_robin': RoundRobin}


@lru_cache(maxsize=1000)
def named(text: str) -> Evaluator:
    """The evaluator of a name, or of an import path such as ``'package.module:attribute'``.

    There is one for the process, so that all of its connections share what it counts.

    Raises:
        ConfigError: it cannot be had, or is not callable.
    """
    if text in NAMES:
        return NAMES[text]()
    if ':' not in text:
        raise ConfigError(unknown('name', text, NAMES) + "; or give an import path, 'package.module:attribute'")
    found = imported(text)
    try:
        evaluator = found() if isinstance(found, type) else found
    except Exception as exc:
        raise ConfigError(f'{text!r} cannot be imported: {exc!r}') from exc
    if not callable(evaluator):
        raise ConfigError(f'{text!r} is {evaluator!r}, which is not callable')
    return evaluator


def percent_of(evaluator: Evaluator, message: Message) -> Optional[float]:
    """What `evaluator` says of the message: 0 to 100, or None where it failed, which is logged."""
    try:
        returned = evaluator(message)
        percent = float(returned) if _is_number(returned) else None
    except Exception as exc:
        _log(evaluator, message, f'raised {type(exc).__name__}{_place(exc)}')
        return None
    if percent is not None and 0 <= percent <= 100:
        return percent
    # What is no number may be an argument of the task, so it is not quoted.
    what = f'a {type(returned).__name__}' if percent is None else f'{percent:g}'
    _log(evaluator, message, f'returned {what}, not a number from 0 to 100')
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _place(exc: BaseException) -> str:
    """Where it was raised. Its text is left out: that may quote the task's arguments."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f' at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}' if frame is not None else ''


def _log(evaluator: Evaluator, message: Message, failure: str) -> None:
    kind = evaluator if hasattr(evaluator, '__qualname__') else type(evaluator)
    headers = message.get('headers') or {}
    logger.error('evaluator %s.%s %s; task %s[%s] goes to the default sub-queue', getattr(kind, '__module__', '?'),
                 kind.__qualname__, failure, headers.get('task', '?'), headers.get('id', '?'))
