"""Options: each one's default, what it accepts, what it refuses and how."""
from __future__ import annotations

import json
import pickle
import re
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_qos import checks
from celery_qos.config import ALGORITHMS, ON_FULL, Config, Egress, QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError
from celery_qos.evaluators import RoundRobin
from celery_qos.path import parse_path

#: The seed's worked example.
SUB_QUEUES = (SubQueue('high', 100, 250), SubQueue('medium', 200, 600), SubQueue('low', 700, 150))
#: Options that Tenant and SubQueue share: name, what is accepted, what is refused.
LIMITS = [
    ('capacity', [1, 100, None], [0, -1, 1.0, 1.5, '5', True, inf, 10 ** 13]),
    ('max_in_flight', [1, 100, None], [0, -1, 1.0, '5', True, inf, 10 ** 13]),
    ('burst', [0, 1, 100], [None, -1, 1.0, '5', True, inf]),
    ('rate', ['1/s', '100/m', '5000/h', '0.5/s', 7, 0.25, None],
     ['', '100', '100/d', '/m', '0/m', '-1/s', '1e3/s', 'inf/s', '1_0/s', '1/s ', '1.', '1/m/s', '100/S', 0, -1, inf,
      float('nan'), True, ['1/s'], '1/s\n', '\u0661/s', '9999999999/s', '0.0000001/h', 10 ** 400, '9' * 400 + '/s']),
    ('paused', [True, False], [None, 0, 1, 'yes']),
    ('on_full', ON_FULL, [None, 'drop', 'dead_letter', 'Reject', 0, ['reject']]),
]
ACCEPTED = [(name, value) for name, accepted, _ in LIMITS for value in accepted]
REFUSED = [(name, value) for name, _, refused in LIMITS for value in refused]


def sub_queue(**options):
    return SubQueue(**{'name': 'high', 'capacity': 5, 'weight': 1, **options})


NO_POSITIVE_NUMBERS = [0, -1, 0.0, float('nan'), float('inf'), '2', None, True, [1]]


class TestDefaults:
    def test_qos(self):
        assert {option.name: getattr(QoS(), option.name) for option in fields(QoS)} == {
            'algorithm': 'wrr', 'queues': (), 'evaluator': None, 'egress': Egress(), 'tenants': {},
            'default_tenant': Tenant(), 'max_deliveries': 5, 'max_dead_letters': 100_000,
            'deduplication_seconds': 60.0, 'lease_seconds': 15.0, 'unlimited_prefetch': 1000}

    def test_tenant(self):
        assert {option.name: getattr(Tenant(), option.name) for option in fields(Tenant)} == {
            'weight': 1.0, 'capacity': None, 'max_in_flight': None, 'burst': 0, 'rate': None, 'paused': False,
            'on_full': 'reject', 'sub_queue': None}

    def test_sub_queue(self):
        given = SubQueue('high', 5, 2)
        assert {option.name: getattr(given, option.name) for option in fields(SubQueue)} == {
            'name': 'high', 'capacity': 5, 'weight': 2.0, 'ingress_weight': None, 'egress_weight': None,
            'algorithm': 'wrr', 'max_in_flight': None, 'burst': 0, 'rate': None, 'paused': False, 'on_full': 'reject'}

    def test_egress(self):
        assert {option.name: getattr(Egress(), option.name) for option in fields(Egress)} == {
            'capacity': None, 'streams': 1, 'workers': 1, 'idle_threshold': 1, 'idle_timeout': 10.0}

    def test_config(self):
        assert Config().of('any') == QoS()
        assert Config().explicit is False


class TestAccepted:
    @pytest.mark.parametrize('weight', [1, 0.25, 200, 1e6])
    def test_weight(self, weight):
        assert Tenant(weight=weight).weight == weight

    @pytest.mark.parametrize('seconds', [1, 1.5, 3600])
    def test_lease_seconds(self, seconds):
        assert QoS(lease_seconds=seconds).lease_seconds == seconds

    @pytest.mark.parametrize('count', [1, 100_000])
    def test_unlimited_prefetch(self, count):
        assert QoS(unlimited_prefetch=count).unlimited_prefetch == count

    def test_tenants(self):
        qos = QoS.from_data({'tenants': {'a': {'weight': 2}, 'b': Tenant(3)}})
        assert qos.tenants == {'a': Tenant(2), 'b': Tenant(3)}

    def test_tenants_keys_may_be_numbers(self):
        """As YAML and `tenant_key` give them."""
        assert QoS.from_data({'tenants': {42: {'weight': 2}}}).tenants == {'42': Tenant(2)}

    @pytest.mark.parametrize('key, path', [
        ('acme', 'acme'), (('acme',), 'acme'), (('acme', 'alice'), 'acme\x1falice'), ('acme\x1falice', 'acme\x1falice'),
        (('acme', 7, 'x y'), 'acme\x1f7\x1fx y'), ('', ''), (7, '7')])
    def test_tenants_keys_may_be_paths(self, key, path):
        for qos in QoS(tenants={key: Tenant(2)}), QoS.from_data({'tenants': {key: {'weight': 2}}}):
            assert qos.tenants == {path: Tenant(2)}
        assert parse_path(key) == path

    @pytest.mark.parametrize('name, value', ACCEPTED)
    def test_limits(self, name, value):
        assert getattr(Tenant(**{name: value}), name) == value
        assert getattr(sub_queue(**{name: value or 5 if name == 'capacity' else value}), name) == (
            value or 5 if name == 'capacity' else value)

    @pytest.mark.parametrize('rate, seconds', [
        ('100/m', 100 / 60), ('1/s', 1), ('5000/h', 5000 / 3600), ('0.5/s', 0.5), (7, 7), (0.25, 0.25)])
    def test_rates(self, rate, seconds):
        assert checks.per_second(rate) == seconds

    @pytest.mark.parametrize('algorithm', ALGORITHMS)
    def test_algorithms(self, algorithm):
        assert QoS(algorithm=algorithm).algorithm == algorithm
        assert sub_queue(algorithm=algorithm).algorithm == algorithm

    @pytest.mark.parametrize('name, value', [
        ('capacity', 1), ('capacity', None), ('streams', 1), ('streams', 64), ('workers', 3), ('idle_threshold', 9),
        ('idle_timeout', 0.1), ('idle_timeout', 60)])
    def test_egress(self, name, value):
        assert getattr(Egress(**{name: value}), name) == value
        assert getattr(QoS.from_data({'egress': {name: value}}).egress, name) == value

    def test_default_tenant(self):
        assert QoS.from_data({'default_tenant': {'weight': 2}}).default_tenant == Tenant(2)


class TestRefused:
    """The error names the option, the value, and what would be right."""

    @pytest.mark.parametrize('weight', NO_POSITIVE_NUMBERS)
    def test_weight(self, weight):
        with pytest.raises(ConfigError) as error:
            Tenant(weight=weight)
        assert 'weight' in str(error.value) and repr(weight) in str(error.value)

    @pytest.mark.parametrize('seconds', [*NO_POSITIVE_NUMBERS, 0.5])
    def test_lease_seconds(self, seconds):
        with pytest.raises(ConfigError) as error:
            QoS(lease_seconds=seconds)
        assert 'lease_seconds' in str(error.value) and repr(seconds) in str(error.value)

    @pytest.mark.parametrize('count', [*NO_POSITIVE_NUMBERS, 1.5])
    def test_unlimited_prefetch(self, count):
        with pytest.raises(ConfigError) as error:
            QoS(unlimited_prefetch=count)
        assert 'unlimited_prefetch' in str(error.value) and repr(count) in str(error.value)

    @pytest.mark.parametrize('algorithm, hint', [
        ('fifo', "one of 'pq', 'rr', 'wrr', 'dwrr'"), (None, 'one of'), ('WRR', 'one of'),
        ('dwr', "did you mean 'dwrr'?"), (['wrr'], 'did you mean')])
    def test_algorithm(self, algorithm, hint):
        with pytest.raises(ConfigError) as error:
            QoS(algorithm=algorithm)
        assert f'algorithm: {algorithm!r} is unknown; {hint}' in str(error.value)

    @pytest.mark.parametrize('tenants', [None, ['a'], 'a', {'a': 2}, {'a': {'weight': 0}}, {'a': None}])
    def test_tenants(self, tenants):
        with pytest.raises(ConfigError, match='tenants|weight'):
            QoS.from_data({'tenants': tenants})
        with pytest.raises(ConfigError, match='tenants'):
            QoS(tenants=tenants)

    @pytest.mark.parametrize('key', [
        None, b'a', 'a\n', 'x' * 256, (), ('a', ''), ('a', None), ('a', ('b',)), ('a', 'b', 'c', 'd'), 'a\x1f',
        'a\x1fb\x1fc\x1fd', frozenset('a')])
    def test_tenants_keys(self, key):
        with pytest.raises(ConfigError) as error:
            QoS(tenants={key: Tenant(2)})
        assert f'tenants[{key!r}]: tenant key' in str(error.value)

    @pytest.mark.parametrize('one, other', [(42, '42'), (('a', 'b'), 'a\x1fb'), ('a', ('a',))])
    def test_a_tenant_that_is_there_twice(self, one, other):
        with pytest.raises(ConfigError, match='there twice'):
            QoS(tenants={one: Tenant(2), other: Tenant(3)})

    @pytest.mark.parametrize('name, value', REFUSED)
    def test_limits(self, name, value):
        for kind in Tenant, sub_queue:
            with pytest.raises(ConfigError) as error:
                kind(**{name: value})
            assert f'{name}: {value!r} is' in str(error.value)

    @pytest.mark.parametrize('name, value', [
        *((name, value) for name in ('capacity', 'streams', 'workers', 'idle_threshold')
          for value in (0, -1, 1.5, '1', True, inf)),
        ('streams', 65), ('streams', None), ('workers', None), ('idle_threshold', None),
        *(('idle_timeout', value) for value in NO_POSITIVE_NUMBERS)])
    def test_egress(self, name, value):
        with pytest.raises(ConfigError) as error:
            Egress(**{name: value})
        assert f'{name}: {value!r} is' in str(error.value)

    @pytest.mark.parametrize('egress', [None, 3, 'a', [], {'stream': 2}])
    def test_egress_as_a_whole(self, egress):
        with pytest.raises(ConfigError, match='egress'):
            QoS(egress=egress)

    def test_unknown_options_of_objects(self):
        with pytest.raises(ConfigError, match="QoS option: 'tenant' is unknown; did you mean 'tenants'"):
            QoS(tenant={})
        with pytest.raises(ConfigError, match="did you mean 'weight'"):
            Tenant(wieght=3)

    def test_a_tenants_mistake_names_the_tenant(self):
        with pytest.raises(ConfigError, match=r"tenants\['acme'\]: weight: 0 "):
            QoS.from_data({'tenants': {'acme': {'weight': 0}}})

    @pytest.mark.parametrize('tenant', [None, 2, 'a', []])
    def test_default_tenant(self, tenant):
        with pytest.raises(ConfigError, match='default_tenant'):
            QoS.from_data({'default_tenant': tenant})
        with pytest.raises(ConfigError, match='default_tenant'):
            QoS(default_tenant=tenant)

    @pytest.mark.parametrize('data, text', [
        ({'lease_second': 3}, "QoS option: 'lease_second' is unknown; did you mean 'lease_seconds'?"),
        ({'algoritm': 'wrr'}, "did you mean 'algorithm'?"),
        ({'tenant': {}}, "did you mean 'tenants'?"),
        ({'tenants': {'a': {'wieght': 2}}}, "Tenant option: 'wieght' is unknown; did you mean 'weight'?"),
        ({'default_tenant': {'priority': 2}}, "Tenant option: 'priority' is unknown; one of 'weight'"),
        ({'egress': {'stream': 2}}, "egress: Egress option: 'stream' is unknown; did you mean 'streams'?"),
        ({'sub_queues': [{'nam': 'a'}, {}]}, "queues[0]: SubQueue option: 'nam' is unknown; did you mean 'name'?"),
        ({'queues': {'q': {'egres': {}}}}, "queues['q']: QoS option: 'egres' is unknown; did you mean 'egress'?"),
        ({'tenants': {'a': {'on_full': 'dead_letter'}}},
         "on_full: 'dead_letter' is unknown; did you mean 'dead-letter'?"),
        ({7: 2}, 'QoS option: 7 is unknown'),
    ])
    def test_unknown_options(self, data, text):
        with pytest.raises(ConfigError) as error:
            Config.from_data(data)
        assert text in str(error.value)

    @pytest.mark.parametrize('data', ['wrr', 3, ['wrr'], True])
    def test_what_is_no_mapping(self, data):
        with pytest.raises(ConfigError, match='qos'):
            Config.from_data(data)

    @pytest.mark.parametrize('queues', [['a'], 'a', 3])
    def test_queues(self, queues):
        with pytest.raises(ConfigError, match='queues'):
            Config.from_data({'queues': queues})

    @pytest.mark.parametrize('qos', [{'algorithm': 'wrr'}, 'wrr', None])
    def test_queues_as_objects_are_qos(self, qos):
        with pytest.raises(ConfigError, match="'celery'"):
            Config.build(None, {'celery': qos})

    def test_an_option_of_one_queue(self):
        with pytest.raises(ConfigError, match='lease_seconds'):
            Config.from_data({'queues': {'celery': {'lease_seconds': 0}}})


def whose_request():
    return 'acme'


class TestCurrentTenant:
    def test_a_callable_or_its_import_path(self):
        for said in whose_request, f'{__name__}:whose_request':
            for config in Config.build(current_tenant=said), Config.from_data({'current_tenant': said}):
                assert config.resolver is whose_request
                assert Config.from_data(config.as_data()) == config
                assert not config.has('celery')     # it says nothing of queues

    def test_none(self):
        assert Config().resolver is None
        assert 'current_tenant' not in Config().as_data()

    @pytest.mark.parametrize('said', ['whose_request', 7, str, ''])
    def test_what_is_neither(self, said):
        for build in Config.build, lambda current_tenant: Config.from_data({'current_tenant': current_tenant}):
            with pytest.raises(ConfigError, match=f'current_tenant: {re.escape(repr(said))} is neither a callable'):
                build(current_tenant=said)

    def test_what_is_not_there(self):
        with pytest.raises(ConfigError, match="current_tenant: 'shop.nowhere:tenant' cannot be imported"):
            assert Config.build(current_tenant='shop.nowhere:tenant').resolver
        with pytest.raises(ConfigError, match='not a function'):
            assert Config.build(current_tenant='re:IGNORECASE.name').resolver

    def test_misspelled(self):
        with pytest.raises(ConfigError, match="did you mean 'current_tenant'?"):
            Config.from_data({'curent_tenant': whose_request})


class TestSubQueues:
    def test_the_capacity_of_the_queue_is_the_sum_of_theirs(self):
        assert QoS(queues=SUB_QUEUES).capacity == 1000
        assert QoS().capacity is None

    def test_one_without_a_name_is_named_by_its_index(self):
        given = [SubQueue(capacity=1, weight=1), SubQueue('b', 1, 1), SubQueue(capacity=1, weight=1)]
        assert [each.name for each in QoS(queues=given).queues] == ['0', 'b', '2']
        assert given[0].name is None

    def test_a_name_may_be_a_number(self):
        assert sub_queue(name=7).name == '7'

    @pytest.mark.parametrize('options, ingress, egress', [
        ({'weight': 2}, 2, 2), ({'weight': 2, 'ingress_weight': 3}, 3, 2), ({'weight': 2, 'egress_weight': 3}, 2, 3),
        ({'ingress_weight': 3, 'egress_weight': 4}, 3, 4),
        ({'weight': 2, 'ingress_weight': 3, 'egress_weight': 4}, 3, 4)])
    def test_weight_stands_in_for_a_missing_half(self, options, ingress, egress):
        stored = SubQueue('high', 5, **options).changed()
        assert (stored['ingress'], stored['egress']) == (ingress, egress)

    @pytest.mark.parametrize('options, complaint', [
        ({}, "sub-queue 'high' has no weight"),
        ({'ingress_weight': 1}, 'give weight, or egress_weight'),
        ({'egress_weight': 1}, 'give weight, or ingress_weight'),
    ])
    def test_no_weight(self, options, complaint):
        with pytest.raises(ConfigError) as error:
            SubQueue('high', 5, **options)
        assert complaint in str(error.value)

    @pytest.mark.parametrize('name', ['weight', 'ingress_weight', 'egress_weight'])
    @pytest.mark.parametrize('value', [*(value for value in NO_POSITIVE_NUMBERS if value is not None), 1e-7, 1e7])
    def test_weights(self, name, value):
        with pytest.raises(ConfigError) as error:
            sub_queue(**{name: value})
        assert f'{name}: {value!r} is' in str(error.value)

    def test_capacity_is_mandatory(self):
        with pytest.raises(ConfigError, match="capacity: sub-queue 'high' has none; say how many"):
            SubQueue('high', weight=1)
        with pytest.raises(ConfigError, match=r'queues\[1\]: capacity: a sub-queue has none'):
            QoS(queues=[SUB_QUEUES[0], {'weight': 1}])

    @pytest.mark.parametrize('name, complaint', [
        ('ingress', 'reserved'), ('egress', 'reserved'), ('', 'cannot be a name'), ('a:b', 'without a colon'),
        ('a\nb', 'printable'), ('a\x1fb', 'printable'), ('x' * 256, '255 bytes'), (True, 'text'), (1.5, 'text'),
        (['a'], 'text'), (b'a', 'text')])
    def test_names(self, name, complaint):
        with pytest.raises(ConfigError) as error:
            sub_queue(name=name)
        assert f'name: {name!r} ' in str(error.value) and complaint in str(error.value)

    @pytest.mark.parametrize('names', [('a', 'b', 'a'), (None, '0'), ('1', None), (1, '1')])
    def test_a_name_that_is_taken(self, names):
        with pytest.raises(ConfigError, match=r'queues\[\d\]: the name .* is taken'):
            QoS(queues=[sub_queue(name=name) for name in names])

    def test_one_is_none(self):
        with pytest.raises(ConfigError, match='one sub-queue, so there is nothing to choose between'):
            QoS(queues=SUB_QUEUES[:1])

    def test_a_thousand_are_enough(self):
        many = [SubQueue(capacity=1, weight=1)] * 1001
        assert len(QoS(queues=many[:1000]).queues) == 1000
        with pytest.raises(ConfigError, match='1001 sub-queues are more than 1000'):
            QoS(queues=many)

    @pytest.mark.parametrize('queues', [
        None, 'ab', 7, {'a': SUB_QUEUES[0], 'b': SUB_QUEUES[1]}, [1, 2], [Tenant()] * 2])
    def test_what_is_no_list_of_them(self, queues):
        with pytest.raises(ConfigError, match='queues'):
            QoS(queues=queues)

    @pytest.mark.parametrize('options, complaint', [
        ({'queues': SUB_QUEUES, 'tenants': {'a': Tenant(sub_queue='hihg')}},
         "tenants['a']: sub_queue: 'hihg' is unknown; did you mean 'high'?"),
        ({'queues': SUB_QUEUES, 'default_tenant': Tenant(sub_queue='gold')},
         "default_tenant: sub_queue: 'gold' is unknown; one of 'high', 'medium', 'low'"),
        ({'tenants': {'a': Tenant(sub_queue='high')}},
         "tenants['a']: sub_queue: 'high' is unknown; queues declares no"),
    ])
    def test_a_tenants_sub_queue_is_a_declared_one(self, options, complaint):
        with pytest.raises(ConfigError) as error:
            QoS(**options)
        assert complaint in str(error.value)

    def test_a_tenants_sub_queue(self):
        tenants = {'a': Tenant(sub_queue='high'), ('a', 'b'): Tenant(sub_queue='low')}
        assert QoS(queues=SUB_QUEUES, tenants=tenants).tenants['a'].sub_queue == 'high'


def evaluate(message):
    return 50


class TestEvaluator:
    @pytest.mark.parametrize('evaluator', [RoundRobin(), evaluate, 'round_robin', f'{__name__}:evaluate'])
    def test_accepted(self, evaluator):
        qos = QoS(queues=SUB_QUEUES, evaluator=evaluator)
        assert qos.evaluator is evaluator
        assert 0 <= qos.evaluate({'headers': {}}) <= 100

    def test_none(self):
        assert QoS(queues=SUB_QUEUES).evaluate is None

    def test_connections_share_the_one_of_a_name(self):
        data = {'sub_queues': [each.as_data() for each in SUB_QUEUES], 'evaluator': 'round_robin'}
        assert Config.from_data(data).default.evaluate is Config.from_data(data).default.evaluate

    @pytest.mark.parametrize('evaluator', ['weigted', 'no.such:thing', 7, {'x': 1}, RoundRobin, ''])
    def test_refused(self, evaluator):
        with pytest.raises(ConfigError) as error:
            QoS(queues=SUB_QUEUES, evaluator=evaluator)
        assert 'evaluator: ' in str(error.value) and repr(evaluator) in str(error.value)

    def test_without_sub_queues_there_is_nothing_to_choose(self):
        with pytest.raises(ConfigError, match='nothing to choose between'):
            QoS(evaluator='random')

    def test_an_object_stays_one_in_plain_data(self):
        qos = QoS(queues=SUB_QUEUES, evaluator=RoundRobin())
        assert Config.from_data(Config.build(qos).as_data()).default.evaluator is qos.evaluator


class TestPlainData:
    def test_is_json(self):
        qos = QoS(tenants={('a', 7): Tenant(2)}, lease_seconds=30, queues=SUB_QUEUES, evaluator='random')
        assert QoS.from_data(json.loads(json.dumps(qos.as_data()))) == qos

    @pytest.mark.parametrize('default, queues', [
        (QoS(lease_seconds=9), None), (None, {'a': QoS(lease_seconds=9)}),
        (QoS(lease_seconds=9), {'a': QoS(tenants={'x': Tenant(2)}), 'b': QoS()}),
        (QoS(queues=SUB_QUEUES), None), (QoS(queues=SUB_QUEUES), {'a': QoS(queues=SUB_QUEUES[:2]), 'b': QoS()}),
        (None, {'a': QoS(queues=SUB_QUEUES)}),
    ])
    def test_round_trip_of_all_queues(self, default, queues):
        config = Config.build(default, queues)
        assert Config.from_data(config.as_data()) == config
        assert Config.from_data(json.loads(json.dumps(config.as_data()))) == config

    @pytest.mark.parametrize('data', [
        {'queues': [*SUB_QUEUES]}, {'sub_queues': [*SUB_QUEUES]}, {'sub_queues': SUB_QUEUES, 'queues': {}},
        {'queues': [each.as_data() for each in SUB_QUEUES]},
        {'sub_queues': [{'name': 'high', 'capacity': 100, 'weight': 250}, *SUB_QUEUES[1:]], 'queues': {'a': QoS()}},
    ])
    def test_sub_queues_of_every_queue(self, data):
        """A list of queues is of sub-queues, a mapping is of Celery queues."""
        assert Config.from_data(data).of('any').queues == SUB_QUEUES
        own = 'a' in data.get('queues', {})
        assert Config.from_data(data).of('a').queues == (() if own else SUB_QUEUES)

    @pytest.mark.parametrize('name', ['queues', 'sub_queues'])
    def test_sub_queues_of_one_queue(self, name):
        config = Config.from_data({'queues': {'a': {name: list(SUB_QUEUES)}}})
        assert (config.of('a').queues, config.of('b').queues) == (SUB_QUEUES, ())

    def test_sub_queues_twice(self):
        for read in QoS.from_data, Config.from_data:
            with pytest.raises(ConfigError, match='give one of them'):
                read({'queues': SUB_QUEUES, 'sub_queues': SUB_QUEUES})

    def test_each_queue_has_its_own(self):
        config = Config.from_data({'lease_seconds': 20, 'queues': {'slow': {'lease_seconds': 60}}})
        assert config.of('slow').lease_seconds == 60
        assert config.of('celery').lease_seconds == 20

    def test_objects_may_stand_in_the_data(self):
        assert Config.from_data(QoS(lease_seconds=9)).of('q') == QoS(lease_seconds=9)
        assert Config.from_data({'queues': {'q': QoS(lease_seconds=9)}}).of('q') == QoS(lease_seconds=9)

    @pytest.mark.parametrize('data', [None, {}, {'queues': {}}])
    def test_nothing_is_nothing_explicit(self, data):
        assert Config.from_data(data) == Config()

    def test_the_callers_data_is_left_alone(self):
        data = {'lease_seconds': 20, 'queues': {'q': {'tenants': {1: {'weight': 2}}}}}
        before = json.dumps(data)
        Config.from_data(data)
        assert json.dumps(data) == before


class TestStored:
    """What the scripts read."""

    def stored(self, **options):
        return {name: json.loads(value) for name, value in QoS(**options).stored.items()}

    def test_without_options(self):
        assert self.stored() == {'queue': {
            'algorithm': 'wrr', 'queues': [], 'streams': 1, 'workers': 1, 'idle_threshold': 1, 'idle_timeout': 10}}

    def test_is_spelled_in_one_way(self):
        assert QoS(tenants={'a': Tenant(2, paused=True)}).stored['tenant:a'] == '{"paused":true,"weight":2.0}'

    def test_egress(self):
        assert self.stored(algorithm='rr', egress=Egress(5, 2, 3, 4, 0.5))['queue'] == {
            'algorithm': 'rr', 'queues': [], 'capacity': 5, 'streams': 2, 'workers': 3, 'idle_threshold': 4,
            'idle_timeout': 0.5}

    def test_sub_queues(self):
        stored = self.stored(queues=[SUB_QUEUES[0], SubQueue(
            None, 7, None, 2, 3, algorithm='dwrr', max_in_flight=4, burst=5, rate='30/m', paused=True,
            on_full='drop-oldest')])
        assert stored['queue']['queues'] == ['high', '1']
        assert stored['sub:high'] == {'capacity': 100, 'ingress': 250, 'egress': 250}
        assert stored['sub:1'] == {'capacity': 7, 'ingress': 2, 'egress': 3, 'algorithm': 'dwrr', 'max_in_flight': 4,
                                   'burst': 5, 'rate': 0.5, 'paused': True, 'on_full': 'drop-oldest'}

    @pytest.mark.parametrize('options, stored', [
        ({}, {}), ({'weight': 1}, {}), ({'weight': 2}, {'weight': 2}), ({'rate': '100/m'}, {'rate': 100 / 60}),
        ({'rate': 5}, {'rate': 5}),
        ({'capacity': 3, 'on_full': 'dead-letter'}, {'capacity': 3, 'on_full': 'dead-letter'}),
        ({'max_in_flight': 2, 'burst': 1}, {'max_in_flight': 2, 'burst': 1}), ({'paused': True}, {'paused': True}),
        ({'sub_queue': 'low'}, {'sub_queue': 'low'})])
    def test_tenants(self, options, stored):
        found = self.stored(queues=SUB_QUEUES, tenants={'a': Tenant(**options), ('a', 'b'): Tenant(**options)})
        assert found['tenant:a'] == found['tenant:a\x1fb'] == stored
        found = self.stored(queues=SUB_QUEUES, default_tenant=Tenant(**options))
        assert found.get('default') == (stored or None)

    def test_the_order_of_tenants(self):
        """For `pq`, which may be chosen at run time too."""
        stored = self.stored(tenants={'b': Tenant(), ('a', 'c'): Tenant(), 'a': Tenant()})
        assert stored['order'] == ['b', 'a\x1fc', 'a']

    def test_structure(self):
        qos = QoS(algorithm='pq', queues=(*SUB_QUEUES[:2], SubQueue(None, 1, 1, algorithm='rr')),
                  egress=Egress(streams=3))
        assert qos.structure == {'algorithm': 'pq', 'streams': 3,
                                 'queues': [['high', 'wrr'], ['medium', 'wrr'], ['2', 'rr']]}
        assert QoS().structure == {'algorithm': 'wrr', 'streams': 1, 'queues': []}

    def test_the_fingerprint_follows_it(self):
        qos = QoS(tenants={'a': Tenant(2), 'b': Tenant(3)})
        same = QoS(tenants={'a': Tenant(2.0), 'b': Tenant(3)}, lease_seconds=9)
        others = [QoS(tenants={'a': Tenant(2)}), QoS(tenants={'b': Tenant(3), 'a': Tenant(2)}),
                  replace(qos, algorithm='rr'), replace(qos, egress=Egress(workers=2)),
                  replace(qos, queues=SUB_QUEUES), replace(qos, queues=SUB_QUEUES[:2])]
        assert qos.fingerprint == same.fingerprint
        assert len({each.fingerprint for each in (qos, *others)}) == 7

    def test_of_which_queues(self):
        for config in (Config.build(None, {'a': QoS()}), Config.from_data({'queues': {'a': {}}}),
                       Config.from_data(Config.build(None, {'a': QoS()}).as_data())):
            assert config.has('a') and not config.has('b')
        assert Config.build(QoS()).has('a') and Config.from_data({'algorithm': 'wrr'}).has('a')
        assert not Config().has('a') and not Config.build().has('a')


WEIGHTS = st.floats(1e-3, 1e3)
KEYS = st.text(st.characters(codec='utf-8', exclude_categories=('C', 'Z')), min_size=1, max_size=8)
PATHS = st.one_of(KEYS, st.integers(), st.lists(KEYS, min_size=1, max_size=3).map(tuple))
COMMON = {
    'max_in_flight': st.none() | st.integers(1, 1000), 'burst': st.integers(0, 100), 'paused': st.booleans(),
    'rate': st.none() | WEIGHTS | st.integers(1, 1000).map('{}/m'.format), 'on_full': st.sampled_from(ON_FULL)}
TENANTS = st.builds(Tenant, weight=WEIGHTS, capacity=st.none() | st.integers(1, 1000), **COMMON)
SUB_QUEUE_LISTS = st.lists(st.builds(
    SubQueue, capacity=st.integers(1, 1000), weight=WEIGHTS, ingress_weight=st.none() | WEIGHTS,
    egress_weight=st.none() | WEIGHTS, algorithm=st.sampled_from(ALGORITHMS), **COMMON), min_size=2, max_size=4)
EGRESSES = st.builds(Egress, capacity=st.none() | st.integers(1, 1000), streams=st.integers(1, 64),
                     workers=st.integers(1, 9), idle_threshold=st.integers(1, 9), idle_timeout=st.floats(0.01, 10))
ANY_QOS = st.builds(
    QoS, algorithm=st.sampled_from(ALGORITHMS), queues=SUB_QUEUE_LISTS | st.just([]), egress=EGRESSES,
    tenants=st.dictionaries(PATHS, TENANTS, max_size=4).filter(
        lambda found: len(set(map(parse_path, found))) == len(found)),
    default_tenant=TENANTS, lease_seconds=st.floats(1, 1e4), unlimited_prefetch=st.integers(1, 10_000))


@given(default=ANY_QOS, queues=st.dictionaries(KEYS, ANY_QOS, max_size=2))
def test_every_config_survives_json_pickle_and_copies(default, queues):
    config = Config.build(default, queues)

    again = [Config.from_data(json.loads(json.dumps(config.as_data()))), pickle.loads(pickle.dumps(config)),
             deepcopy(config)]

    for each in again:
        assert each == config
        assert each.of('any').fingerprint == config.of('any').fingerprint


@pytest.mark.parametrize('options, name', [
    (QoS(), 'algorithm'), (Tenant(), 'weight'), (Egress(), 'streams'), (SUB_QUEUES[0], 'weight'),
    (Config(), 'explicit')])
def test_options_cannot_be_changed(options, name):
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, 1)
