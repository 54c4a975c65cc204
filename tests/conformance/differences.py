"""What is known to differ from the stock transport, and how a run is held against it."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .session import Result

__all__ = ('Differences',)

_FOLDER = Path(__file__).parent


def _read(name: str) -> dict[str, str]:
    """Lines ``suite test-id  # reason``; blank lines and lines of comment count for nothing."""
    entries = {}
    for line in _FOLDER.joinpath(name).read_text().splitlines():
        entry, separator, reason = line.partition('  # ')
        if entry.strip() and not entry.startswith('#'):
            if not separator or entry in entries:
                raise ValueError(f'{name}: without a reason, or twice: {line}')
            entries[entry.strip()] = reason
    return entries


def _names(test: str) -> set[str]:
    """What a test may be listed as: its id, with or without its parameters."""
    return {test, test.partition('[')[0]}


@dataclass(frozen=True)
class Differences:
    """Suite and test id to the reason.

    Attributes:
        ours: tests that pass on the stock transport, and fail on this one. A test of these that passes is an error.
        stock: tests that fail, or do not pass every time, on the stock transport.
    """

    ours: dict[str, str]
    stock: dict[str, str]

    @classmethod
    def load(cls) -> Differences:
        return cls(_read('differences.txt'), _read('fail_on_stock.txt'))

    def expected(self, suite: str) -> list[str]:
        """The ids of the tests of `suite` that are not expected to pass."""
        return [name.partition(' ')[2] for name in (*self.ours, *self.stock) if name.startswith(f'{suite} ')]

    def compare(self, suite: str, ours: Result, stock: Optional[Result] = None) -> list[str]:
        """One line for each outcome that should not be; without `stock`, what is recorded stands for it."""
        found = []
        for test, outcome in ours.outcomes.items():
            name = f'{suite} {test}'
            meant = bool(_names(name) & self.ours.keys())
            passes_on_stock = (outcome != 'skipped' if stock is None else stock.outcomes.get(test) == 'passed') \
                and not _names(name) & self.stock.keys()
            if outcome == 'passed' and meant:
                found.append(f'passes, but is listed in differences.txt: {name}')
            elif outcome != 'passed' and passes_on_stock and not meant:
                found.append(f'{outcome}: {name}: {ours.errors.get(test, "")}')
        if not ours.outcomes:
            found.append(f'no outcome at all; the log ends: {ours.log[-500:]}')
        if stock is not None:
            found += [f'has no outcome: {suite} {test}' for test, outcome in stock.outcomes.items()
                      if outcome == 'passed' and test not in ours.outcomes]
        return found
