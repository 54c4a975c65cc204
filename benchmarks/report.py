"""Medians over the rounds, ratios within a round, and which targets are reached."""
from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Optional

from rich.console import Console
from rich.table import Table

from . import fairness
from .figures import LONGEST, LONGEST_FIRST, BenchmarkError, Figure
from .targets import TARGETS, Target

__all__ = ('Report', 'Spread')

#: Said once for all cases.
_OVERALL = (LONGEST, LONGEST_FIRST)
_PACKAGES = ('celery', 'kombu', 'redis', 'amqp', 'gevent', 'celery-redis-plus')
_OURS = 'qos'


class Spread(NamedTuple):
    """A value in each round: their median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


class Row(NamedTuple):
    """One figure of a case."""

    workload: str
    case: str
    name: str
    unit: str
    #: Round to the value, of each broker.
    values: dict[str, dict[int, float]]

    def spread(self, broker: str) -> Optional[Spread]:
        values = self.values.get(broker)
        return Spread.of(list(values.values())) if values else None

    def ratio(self, other: str) -> Optional[Spread]:
        """celery-qos through `other`, of the rounds that have both."""
        ours, theirs = self.values.get(_OURS, {}), self.values.get(other, {})
        ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return Spread.of(ratios) if ratios else None


class Report:
    """All figures of a run.

    Arguments:
        rounds: the figures of each.
        about: what the run was: size, versions of the servers.
    """

    def __init__(self, rounds: Sequence[Iterable[Figure]], about: Mapping[str, Any]) -> None:
        self.figures = [(number, figure) for number, figures in enumerate(rounds, 1) for figure in figures]
        self.about = {**about, **_machine()}
        rows: dict[tuple[str, str, str, str], Row] = {}
        for number, figure in self.figures:
            key = (figure.workload, figure.case, figure.name, figure.unit)
            values = rows.setdefault(key, Row(*key, {})).values
            values.setdefault(figure.broker, {})[number] = figure.value
        self.rows = list(rows.values())

    def longest(self, name: str) -> Optional[Spread]:
        """The highest figure of that name of each round, over all cases."""
        longest: dict[int, float] = {}
        for number, figure in self.figures:
            if figure.name == name:
                longest[number] = max(figure.value, longest.get(number, 0.0))
        return Spread.of(list(longest.values())) if longest else None

    def reached(self, target: Target) -> Optional[Spread]:
        """The figure that a target is about; None where it was not measured."""
        if not target.workload:
            return self.longest(target.name)
        for row in self.rows:
            if (row.workload, row.case, row.name) == target[:3]:
                return row.ratio(target.per) if target.per else row.spread(_OURS)
        return None

    # -- what is shown

    def show(self, console: Console) -> None:
        console.print(' · '.join(f'{name} {value}' for name, value in self.about.items()), highlight=False)
        for workload in dict.fromkeys(row.workload for row in self.rows):
            console.print()
            console.print(self._figures(workload))
        console.print()
        console.print(self._targets())

    def _figures(self, workload: str) -> Table:
        rows = [row for row in self.rows if row.workload == workload and row.name not in _OVERALL]
        brokers = list(dict.fromkeys(broker for row in rows for broker in row.values))
        others = [broker for broker in brokers if broker != _OURS] if _OURS in brokers else []
        table = _table(workload, 'case', 'figure', 'unit', *brokers, *(f'{_OURS} / {other}' for other in others))
        for row in rows:
            table.add_row(row.case, row.name, row.unit, *(_value(row.spread(broker)) for broker in brokers),
                          *(_ratio(row.ratio(other)) for other in others))
        return table

    def _targets(self) -> Table:
        table = _table('targets', 'figure', 'target', 'reached', '')
        for target in TARGETS:
            spread = self.reached(target)
            if spread is None:
                continue
            of = f' / {target.per}' if target.per else ''
            what = ', '.join(filter(None, (target.workload, target.case, target.name)))
            table.add_row(f'{what}{of}', f'{target.sign} {target.bound:g}{"x" if of else ""}',
                          (_ratio if of else _value)(spread),
                          'yes' if target.holds(spread.median) else 'no')
        return table

    def as_data(self) -> dict[str, Any]:
        """For JSON: every value, and what the tables are made of."""
        return {
            'about': self.about,
            'figures': [{'round': number, **figure._asdict()} for number, figure in self.figures],
            'targets': [{**target._asdict(), 'reached': spread and spread._asdict(),
                         'holds': None if spread is None else target.holds(spread.median)}
                        for target in TARGETS for spread in (self.reached(target),)],
        }

    def draw(self, path: Path) -> None:
        """The waits of quiet tenants against the number of noisy ones.

        Raises:
            BenchmarkError: they were not measured.
        """
        from matplotlib.figure import Figure as Picture

        rows = [row for row in self.rows if row.workload == 'fairness' and row.name == fairness.WAIT]
        if not rows:
            raise BenchmarkError('nothing to draw: the workload fairness was not run')
        noisy = [fairness.noisy_of(row.case) for row in rows]
        picture = Picture(figsize=(7, 4), layout='constrained')
        axes = picture.add_subplot()
        for broker, label, colour in (('redis', 'stock Redis transport', '#b4532a'), (_OURS, 'celery-qos', '#1f6f8b')):
            points = [(number, spread) for number, row in zip(noisy, rows) if (spread := row.spread(broker))]
            axes.plot([number for number, _ in points], [spread.median / 1000 for _, spread in points], marker='o',
                      color=colour, label=label)
            axes.fill_between([number for number, _ in points], [spread.low / 1000 for _, spread in points],
                              [spread.high / 1000 for _, spread in points], color=colour, alpha=0.2, linewidth=0)
        axes.set(xscale='log', yscale='log', xlabel='noisy tenants, who share the same backlog',
                 ylabel='median wait of a quiet tenant, s',
                 xticks=noisy, xticklabels=[f'{number:,}' for number in noisy])
        axes.minorticks_off()
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', linewidth=0.4, alpha=0.6)
        axes.legend(frameon=False)
        picture.savefig(path, dpi=150)


def _machine() -> dict[str, str]:
    found = {'Python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            pass
    return found


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify='left', title_style='bold', box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify='left' if number < 3 else 'right', overflow='fold')
    return table


def _value(spread: Optional[Spread]) -> str:
    if spread is None:
        return ''
    value = spread.median
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:,.1f}' if abs(value) >= 10 else f'{value:,.2f}'


def _ratio(spread: Optional[Spread]) -> str:
    if spread is None:
        return ''
    rounds = f' ({spread.low:.2f} .. {spread.high:.2f})' if spread.high > spread.low else ''
    return f'{spread.median:.2f}x{rounds}'
