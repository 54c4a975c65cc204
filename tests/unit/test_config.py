"""Options: each one's default, what it accepts, what it refuses and how."""
from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_qos.config import Config, QoS, Tenant
from celery_qos.errors import ConfigError

NO_POSITIVE_NUMBERS = [0, -1, 0.0, float('nan'), float('inf'), '2', None, True, [1]]


class TestDefaults:
    def test_qos(self):
        assert {option.name: getattr(QoS(), option.name) for option in fields(QoS)} == {
            'algorithm': 'wrr', 'tenants': {}, 'default_tenant': Tenant(), 'lease_seconds': 15.0,
            'unlimited_prefetch': 1000}

    def test_tenant(self):
        assert {option.name: getattr(Tenant(), option.name) for option in fields(Tenant)} == {'weight': 1.0}

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
        ('wr', "did you mean 'wrr'?"), ('fifo', "one of 'wrr'"), (None, 'one of')])
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


class TestPlainData:
    def test_is_json(self):
        qos = QoS(tenants={'a': Tenant(2)}, lease_seconds=30)
        assert QoS.from_data(json.loads(json.dumps(qos.as_data()))) == qos

    @given(weights=st.dictionaries(st.text(min_size=1, max_size=8), st.floats(1e-3, 1e3), max_size=4),
           default=st.floats(1e-3, 1e3), lease=st.floats(1, 1e4), prefetch=st.integers(1, 10_000))
    def test_round_trip(self, weights, default, lease, prefetch):
        qos = QoS(tenants={key: Tenant(weight) for key, weight in weights.items()}, default_tenant=Tenant(default),
                  lease_seconds=lease, unlimited_prefetch=prefetch)
        assert QoS.from_data(qos.as_data()) == qos

    @pytest.mark.parametrize('default, queues', [
        (QoS(lease_seconds=9), None), (None, {'a': QoS(lease_seconds=9)}),
        (QoS(lease_seconds=9), {'a': QoS(tenants={'x': Tenant(2)}), 'b': QoS()}),
    ])
    def test_round_trip_of_all_queues(self, default, queues):
        config = Config.build(default, queues)
        assert Config.from_data(config.as_data()) == config

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
    def test_names_every_weight(self):
        qos = QoS(tenants={'a': Tenant(2)}, default_tenant=Tenant(3))
        assert qos.stored == {'default:weight': 3.0, 'weight:a': 2.0}

    def test_the_fingerprint_follows_it(self):
        qos = QoS(tenants={'a': Tenant(2), 'b': Tenant(3)})
        same = QoS(tenants={'b': Tenant(3.0), 'a': Tenant(2)}, lease_seconds=9)
        other = QoS(tenants={'a': Tenant(2)})
        assert qos.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize('options, name', [(QoS(), 'algorithm'), (Tenant(), 'weight'), (Config(), 'explicit')])
def test_options_cannot_be_changed(options, name):
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, 1)
