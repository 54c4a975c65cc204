"""What the command line makes of figures, names and values."""
from __future__ import annotations

from math import inf

import pytest

from celery_qos.commands.table import Column, lines
from celery_qos.commands.text import clean, limit_text, rate_text, seconds_text, tenant_text
from celery_qos.config import Egress, QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError
from celery_qos.overrides import parsed


@pytest.mark.parametrize('kind, name, text, value', [
    (Tenant, 'weight', '3', 3), (Tenant, 'weight', '0.5', 0.5), (Tenant, 'capacity', '10', 10),
    (Tenant, 'capacity', 'unlimited', inf), (Tenant, 'capacity', 'none', None), (Tenant, 'rate', '100/m', '100/m'),
    (Tenant, 'rate', '5', 5), (Tenant, 'rate', 'unlimited', inf), (Tenant, 'paused', 'yes', True),
    (Tenant, 'paused', 'False', False), (Tenant, 'weight', 'default', None), (Tenant, 'weight', '', None),
    (Tenant, 'on_full', 'drop-oldest', 'drop-oldest'), (Tenant, 'sub_queue', '007', '007'),
    (Tenant, 'sub_queue', 'default', 'default'), (Tenant, 'sub_queue', 'none', None),
    (SubQueue, 'weight', '4', 4), (QoS, 'algorithm', 'dwrr', 'dwrr'), (Egress, 'idle_timeout', '2', 2)])
def test_values_stand_for_what_the_option_takes(kind, name, text, value):
    found, = parsed(kind, {name: text}, ['default']).values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize('kind, name, text, said', [
    (Tenant, 'wieght', '3', "did you mean 'weight'"), (Tenant, 'weight', '0', 'weight: 0 is not'),
    (Tenant, 'weight', 'much', "weight: 'much' is not"), (Tenant, 'capacity', '1.5', 'capacity: 1.5 is not'),
    (Tenant, 'weight', 'unlimited', 'weight'), (Tenant, 'paused', 'maybe', "'maybe' is neither"),
    (Tenant, 'weight', 'inf', 'weight: inf'), (QoS, 'algorithm', 'wwrr', "did you mean 'wrr'"),
    (QoS, 'lease_seconds', '5', 'unknown'), (SubQueue, 'name', 'x', 'unknown')])
def test_others_are_refused_in_words_of_the_option(kind, name, text, said):
    with pytest.raises(ConfigError, match=said):
        parsed(kind, {name: text})


@pytest.mark.parametrize('seconds, text', [
    (None, '-'), (0.0004, '0 ms'), (0.0134, '13 ms'), (0.9996, '1.0 s'), (2.54, '2.5 s'), (31.6, '32 s'),
    (240, '4.0 min'), (15_120, '4.2 h'), (900_000, '10 d')])
def test_durations(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize('rate, text', [(5.0, '5/s'), (100 / 60, '100/m'), (1 / 3600, '1/h'),
                                        (0.123456, '0.123/s'), (5000 / 3600, '5000/h')])
def test_limits_are_in_the_unit_that_makes_them_round(rate, text):
    assert limit_text(rate) == text


@pytest.mark.parametrize('rate, text', [(None, '-'), (0.0, '-'), (1234.5, '1,234/s'), (1000 / 60, '17/s'),
                                        (50 / 15, '3.3/s'), (0.19, '0.19/s'), (0.04, '2.4/m'), (1 / 3600, '1/h')])
def test_measured_rates_are_by_the_second_where_they_are_not_low(rate, text):
    assert rate_text(rate) == text


def test_tenants_and_names_stay_on_their_line():
    assert [tenant_text(each) for each in ('acme', ('acme', 'alice'), 'acme\x1falice', '')] == [
        'acme', 'acme/alice', 'acme/alice', "''"]
    assert clean('a\x1b[31m\nb\udcff') == 'a\ufffd[31m\ufffdb\ufffd'


def test_tables_are_aligned_and_cut_nothing():
    rows = [('x' * 200, '1'), *[('y', str(number)) for number in range(600)], ('z' * 300, '2')]
    found = list(lines([Column('name', width=8), Column('count', right=True)], rows))
    assert found[0] == f'{"name":<200}  count'
    assert found[1] == f'{"x" * 200}      1'
    assert found[-1] == f'{"z" * 300}      2'
    assert len(found) == 603
    assert list(lines([Column('name')], [])) == []
