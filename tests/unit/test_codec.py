"""A message becomes the fields of a stream entry and comes back."""
from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_qos.codec import decode, delivery_tag, encode, parse_delivery_tag
from celery_qos.store import Delivery, Store

MESSAGE = {
    'body': '[[1, 2], {"a": "ä"}, {"callbacks": null}]',
    'headers': {'task': 'shop.sync', 'id': '1', 'retries': 0, 'tenant': 'acme'},
    'properties': {'delivery_info': {'exchange': '', 'routing_key': 'celery'}, 'delivery_tag': 'x', 'priority': 3},
    'content-type': 'application/json',
    'content-encoding': 'utf-8',
}

text = st.text(st.characters(codec='utf-8'), max_size=9)
json = st.recursive(st.none() | st.booleans() | st.integers(-2**40, 2**40) | text,
                    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3))


def as_stored(fields: dict) -> dict[bytes, bytes]:
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in fields.items()}


def test_a_message_comes_back():
    again = decode(Delivery('celery', '5-1', as_stored(encode(MESSAGE, 'acme'))))
    assert again['body'].decode() == MESSAGE['body']
    assert again['headers'] == MESSAGE['headers']
    assert again['content-type'] == 'application/json'
    assert again['content-encoding'] == 'utf-8'
    assert again['properties'] == {**MESSAGE['properties'], 'delivery_tag': 'celery/5-1'}


def test_the_fields_are_readable():
    fields = encode(MESSAGE, 'acme')
    assert fields['tenant'] == 'acme'
    assert fields['body'] == MESSAGE['body']
    assert '"shop.sync"' in fields['headers']


def test_the_given_message_is_left_alone():
    before = repr(MESSAGE)
    encode(MESSAGE, 'acme')
    assert repr(MESSAGE) == before


@pytest.mark.parametrize('name', ['content-type', 'content-encoding'])
@pytest.mark.parametrize('missing', [None, ''])
def test_a_content_type_may_be_missing(name, missing):
    again = decode(Delivery('q', '1-0', as_stored(encode({**MESSAGE, name: missing}, ''))))
    assert again[name] is None


def test_headers_may_be_missing():
    message = {name: value for name, value in MESSAGE.items() if name != 'headers'}
    assert decode(Delivery('q', '1-0', as_stored(encode(message, ''))))['headers'] == {}


def test_redelivered_is_marked_where_celery_looks_for_it():
    fields = as_stored(encode(MESSAGE, ''))
    assert 'redelivered' not in decode(Delivery('q', '1-0', fields))['properties']['delivery_info']
    fields[b'redelivered'] = b'1'
    assert decode(Delivery('q', '1-0', fields))['properties']['delivery_info']['redelivered'] is True


@pytest.mark.parametrize('fields, complaint', [
    ({}, 'properties'),
    ({b'properties': b'{}'}, 'headers'),
    ({b'properties': b'{}', b'headers': b'{}'}, 'body'),
    ({b'properties': b'[]', b'headers': b'{}', b'body': b''}, 'not JSON objects'),
    ({b'properties': b'{}', b'headers': b'null', b'body': b''}, 'not JSON objects'),
    ({b'properties': b'{', b'headers': b'{}', b'body': b''}, ''),
    ({b'properties': b'\xff', b'headers': b'{}', b'body': b''}, ''),
])
def test_what_is_no_message_is_a_value_error(fields, complaint):
    with pytest.raises(ValueError, match=complaint or None):
        decode(Delivery('q', '1-0', fields))


@pytest.mark.parametrize('queue', ['celery', 'a/b', '/', 'ä', 'x,y'])
def test_a_delivery_tag_names_queue_and_entry(queue):
    assert parse_delivery_tag(delivery_tag(queue, '17-4')) == (queue, '17-4')


def test_a_tag_of_kombus_own_lists_has_no_queue():
    assert parse_delivery_tag('0b3c5f4e-0000-4000-8000-000000000000')[0] == ''


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), headers=st.dictionaries(st.text(max_size=8), json, max_size=4))
def test_any_message_comes_back_from_redis(redis, body, headers):
    store = Store(redis)
    store.enqueue('q', 'a', 5, encode({**MESSAGE, 'body': body, 'headers': headers}, 'a'))
    store.lease('q', 'w', 1, 600)
    delivery, = store.take(['q'], 'w', 1)
    store.settle('q', [delivery.entry_id])
    again = decode(delivery)
    assert (again['body'] or b'') == body
    assert again['headers'] == headers
