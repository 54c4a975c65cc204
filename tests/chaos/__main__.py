"""Kill workers, brokers and connections under load, and see that no task is lost: python -m tests.chaos"""
from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Optional

import click

POOLS = 'prefork,threads,solo,gevent'


@click.command(help=__doc__)
@click.option('--minutes', type=float, default=30.0, show_default=True, help='How long there is load.')
@click.option('--faults', type=int, default=320, show_default=True, help='How many faults.')
@click.option('--tasks', type=int, default=300_000, show_default=True, help='How many tasks, at least.')
@click.option('--seed', type=int, default=1, show_default=True, help='Of the plan of faults, and of the load.')
@click.option('--pools', default=POOLS, show_default=True, help='Of the workers: two of each.')
@click.option('--transport', type=click.Choice(['qos', 'redis']), default='qos', show_default=True,
              help="redis is Celery's own, to compare.")
@click.option('--lease', type=float, default=3.0, show_default=True, help='lease_seconds of celery-qos.')
@click.option('--visibility-timeout', type=float, default=30.0, show_default=True, help="Of Celery's own transport.")
@click.option('--quick', is_flag=True, help='About two minutes, with one worker of each pool.')
@click.option('--redis', 'binary', type=click.Path(path_type=Path, exists=True), help='The server to run.')
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Write everything to this file.')
@click.option('--report', 'report_file', type=click.Path(path_type=Path), help='Write the report to this file.')
@click.option('--keep-logs', type=click.Path(path_type=Path), help="Keep workers' and servers' logs in this folder.")
def main(minutes: float, faults: int, tasks: int, seed: int, pools: str, transport: str, lease: float,
         visibility_timeout: float, quick: bool, binary: Optional[Path], json_file: Optional[Path],
         report_file: Optional[Path], keep_logs: Optional[Path]) -> None:
    from .report import Report
    from .run import Options, run

    names = tuple(pools.split(','))
    if quick:
        minutes, faults, tasks = 1.25, 24, 6_000
    else:
        names += names
    options = Options(minutes, faults, tasks, seed, names, transport, lease, visibility_timeout, binary, keep_logs)
    # So that everything ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()

    def say(text: str) -> Any:
        click.echo(f'{time.monotonic() - began:7.1f} s  {text}', err=True)

    report = Report(run(options, say))
    if json_file:
        json_file.write_text(json.dumps(report.as_data(), indent=1))
    if report_file:
        report_file.write_text(report.as_markdown())
    click.echo(report.as_markdown())
    say('everything holds' if report.holds else 'not everything holds')
    sys.exit(0 if report.holds else 1)


if __name__ == '__main__':
    main()
