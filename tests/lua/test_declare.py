"""The settings that a queue keeps."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, Tenant
from celery_qos.errors import SchemaMismatch
from celery_qos.store import FORGET, SCHEMA_VERSION


def declare(store, **weights):
    qos = QoS(tenants={tenant: Tenant(weight) for tenant, weight in weights.items()})
    store.declare('q', qos.fingerprint, qos.stored, qos.structure)


def weight(store, tenant):
    return store.settings('q', f'tenant:{tenant}').get('weight', 1)


def test_a_plain_queue_says_its_schema_only(store, redis):
    store.declare('q')
    assert redis.hgetall(keys.settings(store.namespace('q'))) == {b'schema': SCHEMA_VERSION.encode()}


def test_another_schema_is_refused_and_nothing_is_written(store, redis):
    redis.hset(keys.settings(store.namespace('q')), 'schema', '999')
    with pytest.raises(SchemaMismatch, match="queue 'q' is stored with schema version 999"):
        declare(store, a=2)
    assert redis.hgetall(keys.settings(store.namespace('q'))) == {b'schema': b'999'}


def test_the_configs_weights_are_in_force(store):
    declare(store, a=2)
    assert weight(store, 'a') == 2
    assert weight(store, 'b') == 1


def test_a_newer_config_replaces_an_older_one(store):
    declare(store, a=2, b=3)
    declare(store, b=4)
    assert weight(store, 'a') == 1
    assert weight(store, 'b') == 4


def test_what_was_set_at_run_time_stays_and_wins(store):
    declare(store, a=2)
    store.set('q', 'tenant:a', {'weight': 7})
    declare(store, a=3, b=4)
    assert weight(store, 'a') == 7
    store.set('q', 'tenant:a', {'weight': FORGET})
    assert weight(store, 'a') == 3


def test_a_process_without_config_leaves_anothers_alone(store):
    declare(store, a=2)
    store.declare('q')
    assert weight(store, 'a') == 2


def test_the_same_config_twice_writes_once(store, redis):
    declare(store, a=2)
    redis.hdel(keys.settings(store.namespace('q')), 'tenant:a')
    declare(store, a=2)
    assert weight(store, 'a') == 1


def test_a_tenant_called_like_a_field_is_no_field(store):
    declare(store, **{'set:tenant:a': 5, 'schema': 6})
    assert weight(store, 'a') == 1
    assert weight(store, 'set:tenant:a') == 5
    assert weight(store, 'schema') == 6


def test_reply_queues_are_marked_for_a_while(store, redis):
    store.mark_transient('q', 5000)
    assert store.transient_ttl_ms('q') == 5000
    assert 4000 < redis.pttl(keys.transient(store.namespace('q'))) <= 5000
    store.unmark_transient('q')
    assert store.transient_ttl_ms('q') is None
