"""Run Kombu's and Celery's own integration suites against this transport: python -m tests.conformance"""
from __future__ import annotations

import argparse
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .differences import Differences
from .session import Result, run
from .suites import SUITES, Suite


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m tests.conformance', description=__doc__)
    parser.add_argument('--suite', choices=['all', *(suite.name for suite in SUITES)], default='all')
    parser.add_argument('--file', action='append', help='run this file only, such as test_tasks.py; may be repeated')
    parser.add_argument('-k', dest='select', metavar='EXPRESSION', help="pytest's -k, for a closer look")
    parser.add_argument('--quick', action='store_true', help='a few minutes instead of an hour')
    parser.add_argument('--stock-too', action='store_true',
                        help='run the stock transport as well, and compare with it instead of with what is recorded')
    parser.add_argument('--stock-only', action='store_true', help='run the stock transport, and compare nothing')
    parser.add_argument('--jobs', type=int, default=4,
                        help='files at a time, each on a server of its own; most of their time is waiting')
    parser.add_argument('--json', type=Path, help='write the outcome of every test to this file')
    parser.add_argument('--logs', type=Path, help="keep pytest's output in this folder")
    return parser.parse_args()


def main() -> int:
    """The number of unexpected outcomes, at most 1."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))      # so that a server and a session end with this
    schemes = ['redis'] if arguments.stock_only else ['qos', 'redis'] if arguments.stock_too else ['qos']
    differences = Differences.load()
    report: dict[str, Any] = {'releases': [suite.release for suite in SUITES], 'files': {}}
    unexpected: list[str] = []
    todo = [(suite, file) for suite in SUITES if arguments.suite in ('all', suite.name)
            for file in suite.files(arguments.quick) if not arguments.file or file.name in arguments.file]

    def results_of(suite: Suite, file: Path) -> dict[str, Result]:
        expected = differences.expected(suite.name)
        return {scheme: run(scheme, suite.folder(), file, arguments.select, expected) for scheme in schemes}

    with ThreadPoolExecutor(arguments.jobs) as pool:
        for (suite, file), results in zip(todo, pool.map(results_of, *zip(*todo))):
            for scheme, result in results.items():
                print(f'{suite.name}/{file.name:<45} {scheme:<6} {result.summary}', flush=True)
                if arguments.logs:
                    arguments.logs.mkdir(parents=True, exist_ok=True)
                    (arguments.logs / f'{suite.name}-{file.stem}-{scheme}.log').write_text(result.log)
            report['files'][f'{suite.name}/{file.name}'] = {
                scheme: {'outcomes': result.outcomes, 'errors': result.errors, 'rerun': sorted(result.reruns)}
                for scheme, result in results.items()}
            if 'qos' in results:
                found = differences.compare(suite.name, results['qos'], results.get('redis'))
                unexpected += found
                for line in found:
                    print(f'  {line}', flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    print(f'{len(unexpected)} unexpected')
    return min(len(unexpected), 1)


if __name__ == '__main__':
    sys.exit(main())
