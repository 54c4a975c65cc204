"""Celery brokers side by side, each on a server of its own that this program starts and ends.

All cases are measured in every round, each on all brokers one right after the other, so that figures that are compared
are made within seconds. The tables show the median over the rounds; ratios are taken within a round, and shown with
the lowest and the highest.

\b
Example:
    python -m benchmarks --size quick --workload drain --broker qos --broker redis
    python -m benchmarks --size full --json figures.json --plot waits.png
"""
from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Optional

import click
from rich.console import Console

from . import counts, drain, fairness, latency, memory, publish, scale
from .brokers import BROKERS, Broker, QosBroker
from .figures import LONG, LONGEST, LONGEST_FIRST, BenchmarkError, Case, Figure, Size
from .report import Report

#: Modules with a function `cases`, in the order they are run.
WORKLOADS: dict[str, Any] = {
    module.__name__.rpartition('.')[2]: module for module in (publish, drain, latency, scale, fairness, counts, memory)}
_began = monotonic()


def say(text: str) -> None:
    click.echo(f'{monotonic() - _began:7.1f} s  {text}', err=True)


@click.command(help=__doc__, context_settings={'help_option_names': ['-h', '--help']})
@click.option('--workload', 'workloads', multiple=True, type=click.Choice(list(WORKLOADS)),
              help='Run only this; may be given more than once.')
@click.option('--broker', 'names', multiple=True, type=click.Choice(list(BROKERS)),
              help='Measure only this; may be given more than once.')
@click.option('--case', 'part', default='', help='Run only cases with this in their name.')
@click.option('--size', 'size_name', type=click.Choice([size.value for size in Size]), default='quick',
              show_default=True, help='Hours, minutes a round, or less than a minute.')
@click.option('--rounds', type=click.IntRange(1), help='How often all is measured.  [default: 3; 1 for smoke]')
@click.option('--redis', 'binary', type=click.Path(path_type=Path, exists=True), help='The redis-server to run.')
@click.option('--json', 'json_file', type=click.Path(path_type=Path),
              help='Write every figure to this file, after each round.')
@click.option('--plot', 'picture', type=click.Path(path_type=Path),
              help='Draw the waits of quiet tenants, of the workload fairness.')
def main(workloads: tuple[str, ...], names: tuple[str, ...], part: str, size_name: str, rounds: Optional[int],
         binary: Optional[Path], json_file: Optional[Path], picture: Optional[Path]) -> None:
    # So that everything ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    size = Size(size_name)
    rounds = rounds or size.of(3, 3, 1)
    cases = [case for name in workloads or WORKLOADS for case in WORKLOADS[name].cases(size) if part in case.name]
    figures: list[list[Figure]] = [[] for _ in range(rounds)]
    about: dict[str, Any] = {'size': size.value, 'rounds': rounds}
    failed = False
    with ExitStack() as stack:
        brokers: dict[str, Broker] = {}
        for name in names or BROKERS:
            reason = BROKERS[name].why_not()
            if reason:
                say(f'without {name}: {reason}')
            elif any(name in case.brokers for case in cases):
                try:
                    brokers[name] = stack.enter_context(BROKERS[name](binary))
                except BenchmarkError as exc:
                    say(f'failed: {exc}')
                    failed = True
                else:
                    about[f'broker {name}'] = brokers[name].version or '-'
        for number, found in enumerate(figures):
            for case in cases:
                if not (case.once and number):
                    failed |= not measure(case, brokers, number, found)
            report = Report(figures, about)
            if json_file:
                json_file.write_text(json.dumps(report.as_data(), indent=1))
    console = Console(width=None if sys.stdout.isatty() else 200)
    report.show(console)
    if picture:
        try:
            report.draw(picture)
        except BenchmarkError as exc:
            raise click.ClickException(str(exc)) from exc
    sys.exit(1 if failed else 0)


def measure(case: Case, brokers: dict[str, Broker], number: int, figures: list[Figure]) -> bool:
    """Add the figures of a case on each of its brokers, each round beginning with another one.

    Returns:
        whether there was no error.
    """
    names = [name for name in case.brokers if name in brokers]
    turn = number % len(names) if names else 0
    fine = True
    for name in names[turn:] + names[:turn]:
        broker = brokers[name]
        say(f'round {number + 1}: {case.workload}, {case.name}, {name}')
        try:
            broker.reset()
            figures += case.measure(broker)
            if isinstance(broker, QosBroker):
                figures += longest_calls(case, broker)
        except BenchmarkError as exc:
            say(f'failed: {exc}')
            fine = False
    return fine


def longest_calls(case: Case, broker: QosBroker) -> Iterator[Figure]:
    """How long scripts held the server; which one did, too long, is said."""
    for name, first in ((LONGEST, False), (LONGEST_FIRST, True)):
        calls = [call for call in broker.slow_calls() if call.first == first]
        if calls:
            longest = max(calls, key=lambda call: call.ms)
            yield Figure(case.workload, case.name, name, broker.name, longest.ms, 'ms')
            if longest.ms > LONG:
                say(f'{name}: {longest.script}, {longest.ms:.1f} ms')


if __name__ == '__main__':
    main()
