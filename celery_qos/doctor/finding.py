"""What a check says."""
from __future__ import annotations

from dataclasses import dataclass

__all__ = ('Finding', 'LEVELS', 'ok', 'warn', 'bad', 'mended', 'counted')

#: From good to bad. `warn`: it works, and may not always; `bad`: it does not work, or tasks may be lost.
LEVELS = ('ok', 'mended', 'warn', 'bad')


@dataclass(frozen=True)
class Finding:
    """One sentence about one thing.

    Arguments:
        level: one of `LEVELS`.
        sentence: what is there.
        remedy: what to do; '' where nothing is to be done.
        check: the check's name.
        queue: the queue that it is about; '' for the server.
        mends: ``--fix`` mends it.
    """

    level: str
    sentence: str
    remedy: str = ''
    check: str = ''
    queue: str = ''
    mends: bool = False


def ok(sentence: str) -> Finding:
    return Finding('ok', sentence)


def warn(sentence: str, remedy: str, mends: bool = False) -> Finding:
    return Finding('warn', sentence, remedy, mends=mends)


def bad(sentence: str, remedy: str, mends: bool = False) -> Finding:
    return Finding('bad', sentence, remedy, mends=mends)


def mended(sentence: str) -> Finding:
    return Finding('mended', sentence)


def counted(count: int, noun: str) -> str:
    """Such as ``1 task`` or ``2 tasks``."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'
