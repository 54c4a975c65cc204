"""Medians over the rounds, ratios within a round, and which targets are reached."""
from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from .figures import Figure

__all__ = ('Row', 'rows')


class Row(NamedTuple):
    """One figure of a case, over all brokers and rounds."""

    workload: str
    case: str
    name: str
    unit: str
    #: Broker to its median.
    medians: dict[str, float]


def rows(rounds: Sequence[Sequence[Figure]]) -> list[Row]:
    found: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    for figures in rounds:
        for figure in figures:
            values = found.setdefault((figure.workload, figure.case, figure.name, figure.unit), {})
            values.setdefault(figure.broker, []).append(figure.value)
    return [Row(*key, {broker: median(values) for broker, values in by_broker.items()})
            for key, by_broker in found.items()]
