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

    def compare(self, suite: str, ours: Result, stock: Optional[Result] = None) -> list[str]:
        """One line for each outcome that should not be; without `stock`, what is recorded stands for it."""
        if not ours.outcomes and 'no tests ran' not in ours.log:
            return [f'no outcome at all, the log ends: {ours.log[-500:]}']
        found = []
        for test, outcome in ours.outcomes.items():
            name = f'{suite} {test}'
            if outcome == 'passed' and name in self.ours:
                found.append(f'passes, but is listed in differences.txt: {name}')
            if outcome == 'passed' or name in self.ours:
                continue
            elif stock is None and (outcome == 'skipped' or name in self.stock):
                continue
            elif stock is None or stock.outcomes.get(test) == 'passed':
                found.append(f'{outcome}: {name}: {ours.errors.get(test, "")}')
        for test, outcome in (stock.outcomes if stock else {}).items():
            if outcome == 'passed' and test not in ours.outcomes:
                found.append(f'has no outcome: {suite} {test}')
        return found
