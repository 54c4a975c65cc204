"""The settings that a queue keeps."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, Tenant
from celery_qos.errors import SchemaMismatch
from celery_qos.store import SCHEMA_VERSION


def declare(store, **weights):
    qos = QoS(tenants={tenant: Tenant(weight) for tenant, weight in weights.items()})
    store.declare('q', qos.fingerprint, qos.stored)


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
    assert store.weight('q', 'a') == 2
    assert store.weight('q', 'b') == 1


def test_a_newer_config_replaces_an_older_one(store):
    declare(store, a=2, b=3)
    declare(store, b=4)
    assert store.weight('q', 'a') == 1
    assert store.weight('q', 'b') == 4


def test_what_was_set_at_run_time_stays_and_wins(store):
    declare(store, a=2)
    store.set_weight('q', 'a', 7)
    declare(store, a=3, b=4)
    assert store.weight('q', 'a') == 7
    store.set_weight('q', 'a', None)
    assert store.weight('q', 'a') == 3


def test_a_process_without_config_leaves_anothers_alone(store):
    declare(store, a=2)
    store.declare('q')
    assert store.weight('q', 'a') == 2


def test_the_same_config_twice_writes_once(store, redis):
    declare(store, a=2)
    redis.hdel(keys.settings(store.namespace('q')), 'weight:a')
    declare(store, a=2)
    assert store.weight('q', 'a') == 1


def test_a_tenant_called_like_a_field_is_no_field(store):
    declare(store, **{'set:weight:a': 5, 'schema': 6})
    assert store.weight('q', 'a') == 1
    assert store.weight('q', 'set:weight:a') == 5
    assert store.weight('q', 'schema') == 6


def test_reply_queues_are_marked_for_a_while(store, redis):
    store.mark_transient('q', 5000)
    assert store.transient_ttl_ms('q') == 5000
    assert 4000 < redis.pttl(keys.transient(store.namespace('q'))) <= 5000
    store.unmark_transient('q')
    assert store.transient_ttl_ms('q') is None
