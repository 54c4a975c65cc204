"""Options that are set at run time."""
from __future__ import annotations

from math import inf

import pytest

from celery_qos.config import Egress, QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError
from celery_qos.overrides import overrides, stored_as


@pytest.mark.parametrize('kind, options, stored', [
    (Tenant, {}, {}),
    (Tenant, {'weight': 2}, {'weight': 2.0}),
    (Tenant, {'weight': 1.0, 'paused': False, 'burst': 0}, {'weight': 1.0, 'paused': False, 'burst': 0}),
    (Tenant, {'rate': '100/m'}, {'rate': 100 / 60}),
    (Tenant, {'rate': 7}, {'rate': 7.0}),
    (Tenant, {'rate': inf, 'capacity': inf, 'max_in_flight': inf},
     {'rate': None, 'capacity': None, 'max_in_flight': None}),
    (Tenant, {'capacity': 5, 'on_full': 'drop-oldest'}, {'capacity': 5, 'on_full': 'drop-oldest'}),
    (Tenant, {'sub_queue': 'high'}, {'sub_queue': 'high'}),
    (SubQueue, {'weight': 2}, {'ingress': 2.0, 'egress': 2.0}),
    (SubQueue, {'ingress_weight': 3, 'weight': 2}, {'ingress': 3.0, 'egress': 2.0}),
    (SubQueue, {'weight': 2, 'egress_weight': 3}, {'ingress': 2.0, 'egress': 3.0}),
    (SubQueue, {'capacity': 9, 'algorithm': 'pq', 'paused': True}, {'capacity': 9, 'algorithm': 'pq', 'paused': True}),
    (SubQueue, {'capacity': inf, 'rate': '1/s'}, {'capacity': None, 'rate': 1.0}),
    (QoS, {'algorithm': 'dwrr'}, {'algorithm': 'dwrr'}),
    (Egress, {'capacity': 5, 'streams': 2, 'workers': 3, 'idle_threshold': 4, 'idle_timeout': 0.5},
     {'capacity': 5, 'streams': 2, 'workers': 3, 'idle_threshold': 4, 'idle_timeout': 0.5}),
    (Egress, {'capacity': inf}, {'capacity': None}),
])
def test_what_is_stored(kind, options, stored):
    assert overrides(kind, options) == stored


@pytest.mark.parametrize('kind, options, complaint', [
    (Tenant, {'wieght': 2}, "option: 'wieght' is unknown; did you mean 'weight'?"),
    (Tenant, {'weight': 0}, 'weight: 0 is'),
    (Tenant, {'weight': inf}, 'weight: inf is'),
    (Tenant, {'burst': inf}, 'burst: inf is'),
    (Tenant, {'rate': '100'}, "rate: '100' is"),
    (Tenant, {'capacity': -inf}, 'capacity: -inf is'),
    (Tenant, {'weight': 2, 'capacity': None}, 'capacity: None is not a value'),
    (Tenant, {'sub_queue': 'egress'}, "sub_queue: 'egress' is reserved"),
    (SubQueue, {'name': 'other'}, "option: 'name' is unknown"),
    (SubQueue, {'egress_weight': 0}, 'egress_weight: 0 is'),
    (SubQueue, {'algorithm': 'wr'}, "algorithm: 'wr' is unknown"),
    (QoS, {'tenants': {}}, "option: 'tenants' is unknown"),
    (QoS, {'lease_seconds': 5}, "option: 'lease_seconds' is unknown"),
    (QoS, {'streams': 2}, "option: 'streams' is unknown; one of 'algorithm'"),
    (Egress, {'streams': inf}, 'streams: inf is'),
    (Egress, {'algorithm': 'rr'}, "option: 'algorithm' is unknown"),
])
def test_what_is_refused(kind, options, complaint):
    with pytest.raises(ConfigError) as error:
        overrides(kind, options)
    assert complaint in str(error.value)


@pytest.mark.parametrize('kind, option, names', [
    (Tenant, 'weight', ('weight',)), (SubQueue, 'weight', ('ingress', 'egress')),
    (SubQueue, 'ingress_weight', ('ingress',)), (SubQueue, 'rate', ('rate',)), (Egress, 'streams', ('streams',))])
def test_the_names_in_the_store(kind, option, names):
    assert stored_as(kind, option) == names


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="'stream' is unknown; did you mean 'streams'"):
        stored_as(Egress, 'stream')
