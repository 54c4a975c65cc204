"""Evaluators: what each says of a message, and what becomes of their mistakes."""
from __future__ import annotations

import logging
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from celery_qos.errors import ConfigError
from celery_qos.evaluators import Random, RoundRobin, Weighted, named, percent_of

SECRET = 'an argument of the task'


def message(**headers):
    return {'headers': {'task': 'shop.sync', 'id': 'a-b-c', **headers}, 'properties': {}, 'body': SECRET}


def priority(message):
    """A weight to be found by a callable."""
    return message['properties'].get('priority')


class Half:
    """For import paths."""

    def __call__(self, message):
        return 50


class TestWeighted:
    @pytest.mark.parametrize('weight, percent', [
        (0, 0), (30, 30), (99.5, 99.5), (100, 100), (101, 100), (-1, 0), (float('inf'), 100), (float('-inf'), 0),
        ('30', 30), (10 ** 300, 100)])
    def test_percent_of_the_maximum(self, weight, percent):
        assert Weighted()(message(weight=weight)) == percent

    @pytest.mark.parametrize('maximum, weight, percent', [(1, 0.25, 25), (250, 50, 20), (1e6, 1e6, 100)])
    def test_another_maximum(self, maximum, weight, percent):
        assert Weighted(maximum)(message(weight=weight)) == percent

    def test_another_header(self):
        assert Weighted(10, 'importance')(message(importance=3, weight=9)) == 30

    def test_a_callable(self):
        assert Weighted(10, priority)({**message(), 'properties': {'priority': 3}}) == 30

    @pytest.mark.parametrize('default, percent', [(0.0, 0), (20, 20), (200, 100)])
    @pytest.mark.parametrize('weight', ['weight', priority])
    def test_default(self, weight, default, percent):
        assert Weighted(100, weight, default)(message()) == percent

    @pytest.mark.parametrize('headers', [None, {}])
    def test_a_message_without_headers(self, headers):
        assert Weighted(default=5)({'headers': headers, 'properties': {}, 'body': ''}) == 5

    @pytest.mark.parametrize('maximum', [0, -1, '100', None, True, float('nan'), float('inf')])
    def test_maximum_is_checked(self, maximum):
        with pytest.raises(ConfigError, match='maximum: '):
            Weighted(maximum)

    @pytest.mark.parametrize('weight', [None, 7, ['weight']])
    def test_weight_is_checked(self, weight):
        with pytest.raises(ConfigError, match='weight: '):
            Weighted(weight=weight)

    @pytest.mark.parametrize('default', [None, '0', float('nan'), float('inf')])
    def test_default_is_checked(self, default):
        with pytest.raises(ConfigError, match='default: '):
            Weighted(default=default)


class TestRandom:
    def test_every_tenth_is_as_likely(self):
        evaluate = Random(7)
        tenths = Counter(int(evaluate(message()) // 10) for _ in range(10_000))
        assert set(tenths) == set(range(10))
        assert all(900 < count < 1100 for count in tenths.values())

    @pytest.mark.parametrize('seed', [7, 'seven'])
    def test_a_seed_makes_it_the_same_again(self, seed):
        runs = [[evaluate(message()) for _ in range(20)] for evaluate in (Random(seed), Random(seed))]
        assert runs[0] == runs[1]

    def test_without_a_seed_it_is_another_each_time(self):
        assert Random()(message()) != Random()(message())


class TestRoundRobin:
    def test_from_1_to_100_and_again(self):
        evaluate = RoundRobin()
        assert [evaluate(message()) for _ in range(201)] == [*range(1, 101), *range(1, 101), 1]

    def test_threads_share_it_exactly(self):
        evaluate = RoundRobin()
        with ThreadPoolExecutor(8) as pool:
            seen = Counter(pool.map(lambda _: evaluate(message()), range(20_000)))
        assert seen == dict.fromkeys(range(1, 101), 200)


@pytest.mark.parametrize('evaluator', [
    Weighted(), Weighted(7, priority, 3), Random(), Random(7), RoundRobin()], ids=lambda each: type(each).__name__)
def test_travels_between_processes(evaluator):
    again = pickle.loads(pickle.dumps(evaluator))
    assert type(again) is type(evaluator)
    assert 0 <= again(message()) <= 100
    if isinstance(evaluator, Weighted):
        assert vars(again) == vars(evaluator)
    if getattr(evaluator, 'seed', None):
        assert pickle.loads(pickle.dumps(evaluator))(message()) == Random(7)(message())


class TestNamed:
    @pytest.mark.parametrize('name, kind', [('weighted', Weighted), ('random', Random), ('round_robin', RoundRobin)])
    def test_names(self, name, kind):
        assert type(named(name)) is kind

    def test_there_is_one_for_the_process(self):
        assert named('round_robin') is named('round_robin')

    def test_an_import_path(self):
        assert named(f'{__name__}:priority') is priority

    def test_a_class_is_called(self):
        assert isinstance(named(f'{__name__}:Half'), Half)

    def test_an_attribute_of_an_attribute(self):
        assert named('celery_qos.evaluators:NAMES.copy') is not None

    @pytest.mark.parametrize('text, complaint', [
        ('weighed', "'weighed' is unknown; did you mean 'weighted'?"),
        ('', 'package.module:attribute'),
        ('no.such.module:x', 'no.such.module:x'),
        (f'{__name__}:missing', 'missing'),
        (f'{__name__}:', 'cannot be imported'),
        (':x', 'cannot be imported'),
        (f'{__name__}:SECRET', 'not callable'),
        ('threading:Timer', 'cannot be imported'),
    ])
    def test_what_cannot_be_had(self, text, complaint):
        with pytest.raises(ConfigError) as error:
            named(text)
        assert complaint in str(error.value) and repr(text) in str(error.value)


class TestPercentOf:
    @pytest.mark.parametrize('percent', [0, 0.5, 30, 100, 100.0])
    def test_a_number_from_0_to_100(self, percent, caplog):
        assert percent_of(lambda message: percent, message()) == percent
        assert not caplog.records

    def test_gets_the_message(self):
        assert percent_of(lambda message: message['headers']['x'], message(x=3)) == 3

    @pytest.mark.parametrize('percent', [
        None, '50', b'50', True, -0.1, 100.1, float('nan'), float('inf'), float('-inf'), 10 ** 400, -10 ** 5000,
        [SECRET], SECRET, Decimal(50), 1j], ids=lambda each: type(each).__name__)
    def test_anything_else_is_none_and_one_line(self, percent, caplog):
        assert percent_of(lambda message: percent, message()) is None
        self.check_line(caplog)

    @pytest.mark.parametrize('error', [ValueError(SECRET), KeyError('x'), RecursionError(), MemoryError()])
    def test_what_is_raised_is_none_and_one_line(self, error, caplog):
        def fails(message):
            raise error
        assert percent_of(fails, message()) is None
        line = self.check_line(caplog)
        assert type(error).__name__ in line and __file__ in line

    def test_what_weighted_cannot_read(self, caplog):
        assert percent_of(Weighted(), message(weight=SECRET)) is None
        assert percent_of(Weighted(), message(weight=float('nan'))) is None
        assert 'celery_qos.evaluators.Weighted' in caplog.text
        assert SECRET not in caplog.text

    def test_an_evaluator_that_cannot_be_described(self, caplog):
        class Mute:
            __module__ = 'mute'

            def __call__(self, message):
                raise ValueError

            def __repr__(self):
                raise RuntimeError

        assert percent_of(Mute(), message()) is None
        assert 'Mute' in self.check_line(caplog)

    @pytest.mark.parametrize('headers', [None, {}])
    def test_a_message_of_no_task(self, headers, caplog):
        assert percent_of(lambda message: None, {'headers': headers, 'properties': {}}) is None
        assert '?[?]' in caplog.text

    @staticmethod
    def check_line(caplog):
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert record.name == 'celery_qos.evaluators'
        text = caplog.text.strip()
        assert '\n' not in text
        assert 'shop.sync[a-b-c] goes to the default sub-queue' in text
        assert SECRET not in text
        return text
