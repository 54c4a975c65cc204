"""Celery brokers side by side, each on a server of its own."""
from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional

import click

from . import publish
from .brokers import BROKERS, Broker
from .figures import Case, Figure, Size
from .report import rows

#: Modules with a function `cases`, in the order they are run.
WORKLOADS: dict[str, Any] = {module.__name__.rpartition('.')[2]: module for module in (publish,)}


@click.command(help=__doc__, context_settings={'help_option_names': ['-h', '--help']})
@click.option('--workload', 'workloads', multiple=True, type=click.Choice(list(WORKLOADS)), help='Only this; repeatable.')
@click.option('--broker', 'names', multiple=True, type=click.Choice(list(BROKERS)), help='Only this; repeatable.')
@click.option('--size', type=click.Choice([size.value for size in Size]), default='quick', show_default=True)
@click.option('--rounds', type=click.IntRange(1), default=3, show_default=True)
@click.option('--redis', 'binary', type=click.Path(path_type=Path, exists=True), help='The redis-server to run.')
def main(workloads: tuple[str, ...], names: tuple[str, ...], size: str, rounds: int, binary: Optional[Path]) -> None:
    # So that everything ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cases = [case for name in workloads or WORKLOADS for case in WORKLOADS[name].cases(Size(size))]
    figures: list[list[Figure]] = []
    with ExitStack() as stack:
        brokers: dict[str, Broker] = {}
        for name in names or BROKERS:
            reason = BROKERS[name].why_not()
            if reason:
                click.echo(f'without {name}: {reason}', err=True)
            elif any(name in case.brokers for case in cases):
                brokers[name] = stack.enter_context(BROKERS[name](binary))
        for number in range(rounds):
            figures.append([])
            for case in cases:
                if case.once and number:
                    continue
                figures[-1] += measure(case, brokers, number)
    for row in rows(figures):
        click.echo(f'{row.workload:10} {row.case:30} {row.name:20} ' + '  '.join(
            f'{broker} {value:,.1f}' for broker, value in row.medians.items()) + f' {row.unit}')


def measure(case: Case, brokers: dict[str, Broker], number: int) -> list[Figure]:
    """A case on each of its brokers in turn, each round beginning with another one."""
    figures = []
    names = [name for name in case.brokers if name in brokers]
    for name in names[number % len(names):] + names[:number % len(names)] if names else ():
        broker = brokers[name]
        broker.reset()
        click.echo(f'round {number + 1}  {case.workload}  {case.name}  {name}', err=True)
        figures += case.measure(broker)
        longest = broker.longest_call() if name == 'qos' else None
        if longest is not None:
            figures.append(Figure(case.workload, case.name, 'longest script call', name, longest, 'ms'))
    return figures


if __name__ == '__main__':
    main()
