"""Scripts are the same text whatever they work on: names, ids and tasks are data to them."""
from __future__ import annotations

from importlib.resources import files

import pytest
from redis.exceptions import ResponseError

from celery_qos import QoS, SubQueue, keys
from celery_qos.scripts import Script
from celery_qos.store import Store, Tracked

#: Lua, Redis, glob and format syntax, key spellings, numbers that are none, and bytes that are no text.
HOSTILE = [
    "'] redis.call('FLUSHALL') --", '"..redis.call("FLUSHALL").."', ']] return redis.call("FLUSHALL") --[[', '%s%d%1',
    '{x}', 'x}:0}:settings', '}:egress', ':acme', 'a:b:c', '*', '[^a]?', 'a\r\nFLUSHALL\r\n', '\0', '\\', ' ', '-1',
    'nan', '1e999', '0x10', 'set:default', 'queue', '$(FLUSHALL)', '日本', 'x' * 5000]


def use(store: Store, queue: str, text: str) -> None:
    """A task's whole life, with `text` wherever a caller has a say."""
    store.declare(queue)
    store.set(queue, f'tenant:{text}', {'max_in_flight': 5})
    store.lease(queue, text, 3, 60)
    for priority in 3, 0:
        store.enqueue(queue, text, priority, {'body': text, text + text: text})
    tasks = store.take([queue], text, 9)
    assert [task.fields[b'body'].decode() for task in tasks] == [text, text]
    assert [task.fields[(text + text).encode()].decode() for task in tasks] == [text, text]
    assert store.size(queue) == 0
    assert store.requeue(queue, [tasks[0].entry_id], counted=True) == 1
    accounts = [Tracked(task.entry_id, '', text, '0', 1.0) for task in store.take([queue], text, 9) + tasks[1:]]
    assert store.started(queue, text, accounts) == 2
    assert store.finished(queue, text, accounts) == 2
    assert store.settle(queue, [task.entry_id for task in tasks]) == 0
    store.sweep(queue, 60, text)
    assert store.get(queue, text, 4, 60) is None
    assert store.settings(queue, f'tenant:{text}')['max_in_flight'] == 5
    assert store.reclaim(queue, text, []) == 0
    store.release(queue, text)


@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_data(redis, text):
    store = Store(redis)
    redis.set('canary', 'alive')
    use(store, 'celery', text)
    use(store, text, 'acme')
    assert redis.get('canary') == b'alive'
    queues = [keys.namespace('celery').encode(), keys.namespace(text).encode()]
    assert sorted(redis.keys()) == sorted([b'canary', *{queue + b':settings' for queue in queues}])
    for queue in 'celery', text:
        assert store.purge(queue) == 0 and store.delete(queue)
    assert redis.keys() == [b'canary']


def test_the_server_knows_one_text_of_each_script(redis):
    redis.script_flush()
    for text in HOSTILE:
        use(Store(redis, text), text, text)
    store = Store(redis)
    qos = QoS(queues=[SubQueue(text.replace(':', ''), capacity=1, weight=1) for text in ('a:b', '%s', '[[x')])
    store.declare('q', qos.fingerprint, qos.stored, qos.structure)
    store.purge('q')
    store.delete('q')
    names = [file.name[:-len('.lua')] for file in (files('celery_qos') / 'lua').iterdir() if file.name.endswith('.lua')]
    known = redis.script_exists(*[Script(name).sha for name in names])
    assert redis.info('memory')['number_of_cached_scripts'] == sum(known) > 10


@pytest.mark.parametrize('entry_id', HOSTILE[:9])
def test_an_odd_id_settles_nothing(redis, entry_id):
    store = Store(redis)
    store.lease('q', 'w', 1, 60)
    store.enqueue('q', 'acme', 0, {'body': 'x'})
    store.take(['q'], 'w', 1)
    for act in (lambda: store.settle('q', [entry_id]), lambda: store.requeue('q', [entry_id], True),
                lambda: store.started('q', 'w', [Tracked(entry_id, '', 'acme', '0')])):
        with pytest.raises(ResponseError):
            act()
        assert redis.xpending(keys.egress(keys.namespace('q')), keys.GROUP)['pending'] == 1


@pytest.mark.parametrize('priority', ['0', -1, 10, "0:x'"])
def test_a_priority_is_a_step(store, redis, priority):
    with pytest.raises((ValueError, TypeError)):
        store.enqueue('q', 'acme', priority, {'body': 'x'})
    assert redis.keys() == []
