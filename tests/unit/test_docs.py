"""docs/configuration.md says what the code says."""
from __future__ import annotations

import re
from dataclasses import MISSING, fields
from inspect import signature
from pathlib import Path

import pytest
from celery import Celery

import celery_qos
from celery_qos import evaluators
from celery_qos.checks import MAX_WEIGHT, MIN_WEIGHT
from celery_qos.config import ALGORITHMS, MAX_STREAMS, ON_FULL, Config, Egress, QoS, SubQueue, Tenant

TEXT = (Path(__file__).parents[2] / 'docs' / 'configuration.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```python\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)


def table(title: str) -> dict[str, str]:
    """Option to default, of the table with that title."""
    rows = re.search(rf'^\| `{title}` \| default .*\n\|---.*\n((?:\|.*\n)+)', TEXT, re.MULTILINE)
    assert rows, f'no table of {title}'
    return dict(re.findall(r'^\| `(\w+)` \| `?(.+?)`? \|', rows[1], re.MULTILINE))


def default_of(option) -> object:
    return option.default if option.default_factory is MISSING else option.default_factory()


@pytest.mark.parametrize('kind', [QoS, Tenant, SubQueue, Egress])
def test_every_option_is_there_with_its_default(kind):
    documented = {name: eval(default, {'Tenant': Tenant, 'Egress': Egress})
                  for name, default in table(kind.__name__).items()}

    assert documented == {option.name: default_of(option) for option in fields(kind)}


def test_every_algorithm_is_explained():
    section = TEXT.split('## Algorithms')[1].split('\n## ')[0]

    assert tuple(re.findall(r'^\| `(\w+)` \|', section, re.MULTILINE)) == ALGORITHMS


def test_every_way_to_be_full_is_explained():
    section = TEXT.split('## Limits')[1].split('\n## ')[0]

    assert set(re.findall(r"(?:`on_full='|`)([\w-]+)'?` (?:raises|puts|removes)", section)) == set(ON_FULL)


def test_every_evaluator_is_there_with_its_arguments():
    documented = dict(re.findall(r'^\| `(\w+)(\(.*?\))` \|', TEXT, re.MULTILINE))

    assert documented == {kind.__name__: re.sub(r': [^=]*? = ', '=', str(signature(kind)).split(' ->')[0])
                          for kind in evaluators.NAMES.values()}
    for name in evaluators.NAMES:
        assert f"`'{name}'`" in TEXT


def test_the_number_of_streams():
    assert f'up to {MAX_STREAMS};' in TEXT


def test_the_limits_of_a_weight():
    least, most = re.search(r'; ([\d.]+) to ([\d,]+) \|', TEXT).groups()

    assert (float(least), float(most.replace(',', ''))) == (MIN_WEIGHT, MAX_WEIGHT)


def test_the_two_ways_to_say_it_are_the_same():
    objects, data = BLOCKS[:2]
    app, plain = Celery(), {}
    exec(objects, {'app': app, 'celery_qos': celery_qos})
    exec(data, plain)

    configs = [Config.from_data(options['qos'])
               for options in (app.conf.broker_transport_options, plain['broker_transport_options'])]

    for queue in ('reports', 'another'):
        assert configs[0].of(queue) == configs[1].of(queue)
    assert configs[0].of('reports').lease_seconds == 60
    assert configs[0].of('another').tenants == {'gold': Tenant(weight=5)}


def test_the_worked_example_of_sub_queues():
    app = Celery()
    exec(BLOCKS[2], {'app': app, 'celery_qos': celery_qos, 'QoS': QoS})
    sub_queues = Config.from_data(app.conf.broker_transport_options['qos']).default.queues

    weights = [each.weight for each in sub_queues]
    shares = [100 * weight / sum(weights) for weight in weights]
    turns = [round(weight / min(weights)) for weight in weights]
    text = ' '.join(TEXT.split())
    assert '{:g}, {:g} and {:g} of them'.format(*shares) in text
    assert '0 to {0:g} percent goes to `high`, above {0:g} to {1:g} to `medium`, above {1:g} to 100 to `low`'.format(
        shares[0], shares[0] + shares[1]) in text
    assert 'of every {} turns `high` gets {}, `medium` {} and `low` {}'.format(sum(turns), *turns) in text


def test_what_is_set_at_run_time(server):
    app = Celery(broker=server.url('qos'), set_as_current=False)
    exec(BLOCKS[2], {'app': app, 'celery_qos': celery_qos, 'QoS': QoS})
    with app.connection_for_write() as connection:
        connection.default_channel.queue_declare('celery')
    named = {'app': app, 'celery_qos': celery_qos}
    exec(BLOCKS[3], named)

    control = named['control']
    assert control.tenant('acme')['weight'] == 3
    assert control.tenant('acme')['rate'] == pytest.approx(100 / 60)
    assert control.tenant(('acme', 'alice'))['paused'] is True
    assert control.sub_queue('low')['max_in_flight'] == 10
    assert control.queue()['capacity'] == 1000
    app.close()
