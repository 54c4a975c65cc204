"""The exceptions, and what is exported."""
from __future__ import annotations

import pickle

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

import celery_qos
from celery_qos import errors

ERRORS = [getattr(errors, name) for name in errors.__all__ if name != 'QoSError']


@pytest.mark.parametrize('error', ERRORS)
def test_all_are_qos_errors(error):
    assert issubclass(error, errors.QoSError)


@pytest.mark.parametrize('error', ERRORS)
def test_none_is_a_connection_error(error):
    """Kombu would try again for ever."""
    assert not issubclass(error, (OSError, RedisError, OperationalError))


@pytest.mark.parametrize('name', errors.__all__)
def test_all_are_public(name):
    assert getattr(celery_qos, name) is getattr(errors, name)
    assert name in celery_qos.__all__


def test_the_tree_in_the_docstring_is_complete():
    for name in errors.__all__:
        assert name in errors.__doc__


@pytest.mark.parametrize('name', celery_qos.__all__)
def test_what_the_package_exports_is_there(name):
    assert getattr(celery_qos, name) is not None


def test_a_wrong_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'Qos'"):
        _ = celery_qos.Qos


def test_schema_mismatch_names_the_queue_both_versions_and_the_remedy():
    error = errors.SchemaMismatch('celery', '1', '2')
    assert (error.queue, error.stored, error.expected) == ('celery', '1', '2')
    for part in "'celery'", 'version 1', 'version 2', 'drain and delete':
        assert part in str(error)


@pytest.mark.parametrize('sub_queue, place', [
    ('', "queue 'celery', tenant 'acme'"), ('high', "queue 'celery', sub-queue 'high', tenant 'acme'")])
def test_queue_full_names_what_is_full_its_capacity_and_the_remedy(sub_queue, place):
    error = errors.QueueFull('celery', sub_queue, 'acme', 100)
    assert (error.queue, error.sub_queue, error.tenant, error.capacity) == ('celery', sub_queue, 'acme', 100)
    for part in place, '100 tasks', 'raise capacity', 'on_full':
        assert part in str(error)


@pytest.mark.parametrize('error', [
    errors.QueueFull('celery', 'high', 'acme', 100), errors.SchemaMismatch('celery', '1', '2'),
    errors.ConfigError('weight: 0'), errors.TenantKeyError('a')])
def test_travels_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
