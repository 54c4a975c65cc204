"""What the report of the benchmarks makes of figures."""
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import LONGEST, Figure, quantile
from benchmarks.report import Report, Spread
from benchmarks.targets import TARGETS, Target

RATE = ('drain', 'solo, default ack', 'rate')


def report(*rounds):
    return Report([[Figure(*RATE, broker, value, 'tasks/s') for broker, value in each.items()] for each in rounds], {})


def test_ratios_are_taken_within_a_round():
    row, = report({'qos': 10, 'redis': 5}, {'qos': 30, 'redis': 10}, {'qos': 40, 'redis': 8}).rows
    assert row.spread('qos') == Spread(30, 10, 40)
    assert row.ratio('redis') == Spread(3, 2, 5)


def test_a_round_without_the_other_has_no_ratio():
    row, = report({'qos': 10}, {'qos': 30, 'redis': 10}).rows
    assert row.ratio('redis') == Spread(3, 3, 3)
    assert row.ratio('rabbitmq') is None


def test_a_target_is_held_against_the_ratio_or_the_figure():
    figures = report({'qos': 10, 'redis': 5})
    assert figures.reached(Target(*RATE, 'redis', '>=', 2.0)).median == 2
    assert figures.reached(Target(*RATE, '', '>=', 2.0)).median == 10
    assert figures.reached(Target('drain', 'other', 'rate', '', '>=', 2.0)) is None


def test_the_longest_call_is_that_of_all_cases():
    figures = Report([[Figure('drain', case, LONGEST, 'qos', ms, 'ms') for case, ms in (('a', 2.0), ('b', 7.0))]], {})
    assert figures.longest(LONGEST) == Spread(7, 7, 7)


@pytest.mark.parametrize('share, value', [(0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_one_of_the_values(share, value):
    assert quantile([4, 1, 3, 2], share) == value


def test_targets_are_stated_once():
    assert len({target[:4] for target in TARGETS}) == len(TARGETS)


def test_other_brokers_run_without_celery_qos():
    """But for the entry point that any Kombu loads."""
    code = '''
import sys, benchmarks.app, benchmarks.load
benchmarks.app.app.connection_for_write().transport
found = {name for name in sys.modules if name.partition('.')[0] == 'celery_qos'}
assert not [name for name in found if name.endswith(('tenant', 'transport'))], found
'''
    subprocess.run([sys.executable, '-c', code], check=True, cwd=Path(__file__).parents[2],
                   env={'BENCH_BROKER': 'redis://127.0.0.1:1/0', 'PYTHONPATH': str(Path(__file__).parents[2])})
