"""docs/configuration.md says what the code says."""
from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from celery import Celery

import celery_qos
from celery_qos.config import MAX_WEIGHT, MIN_WEIGHT, Config, QoS, Tenant

TEXT = (Path(__file__).parents[2] / 'docs' / 'configuration.md').read_text(encoding='utf-8')


def table(title: str) -> dict[str, str]:
    """Option to default, of the table with that title."""
    rows = re.search(rf'^\| `{title}` \| default .*\n\|---.*\n((?:\|.*\n)+)', TEXT, re.MULTILINE)
    assert rows, f'no table of {title}'
    return dict(re.findall(r'^\| `(\w+)` \| `?(.+?)`? \|', rows[1], re.MULTILINE))


@pytest.mark.parametrize('kind', [QoS, Tenant])
def test_every_option_is_there_with_its_default(kind):
    documented = {name: eval(default, {'Tenant': Tenant}) for name, default in table(kind.__name__).items()}

    assert documented == {option.name: getattr(kind(), option.name) for option in fields(kind)}


def test_the_limits_of_a_weight():
    least, most = re.search(r'; ([\d.]+) to ([\d,]+) \|', TEXT).groups()

    assert (float(least), float(most.replace(',', ''))) == (MIN_WEIGHT, MAX_WEIGHT)


def test_the_two_ways_to_say_it_are_the_same():
    objects, data = re.findall(r'^```python\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)
    app, plain = Celery(), {}
    exec(objects, {'app': app, 'celery_qos': celery_qos})
    exec(data, plain)

    configs = [Config.from_data(options['qos'])
               for options in (app.conf.broker_transport_options, plain['broker_transport_options'])]

    for queue in ('reports', 'another'):
        assert configs[0].of(queue) == configs[1].of(queue)
    assert configs[0].of('reports').lease_seconds == 60
    assert configs[0].of('another').tenants == {'gold': Tenant(weight=5)}
