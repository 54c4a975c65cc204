"""Settings that no config of this release writes: by hand, or by a newer release."""
from __future__ import annotations

import json

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue
from tests.lua.hand import number_of

#: Each counts as not said, so it limits nothing.
ODD = [
    {'max_in_flight': 'x'}, {'max_in_flight': {}}, {'max_in_flight': None}, {'max_in_flight': True},
    {'max_in_flight': 9, 'burst': 'x'}, {'max_in_flight': 9, 'burst': None}, {'max_in_flight': '9'},
    {'rate': '10/m'}, {'rate': 0}, {'rate': -1}, {'rate': 1e-300}, {'rate': 1e300}, {'rate': None}, {'rate': []},
    {'capacity': 'x'}, {'capacity': {}}, {'capacity': None}, {'capacity': '9'}, {'paused': None},
    {'on_full': [], 'capacity': 9},
    {'sub_queue': 3}, {'sub_queue': {}}, {'sub_queue': True}, {'weight': None}, {'weight': []}, {'weight': 1e-320},
    {'weight': 1e308}, {'algorithm': []}, {'new': {'unheard': 'of'}}]


@pytest.mark.parametrize('options', ODD, ids=str)
@pytest.mark.parametrize('of', ['tenant:a', 'set:tenant:a', 'default', 'set:default', 'sub:x', 'set:sub:x'])
def test_odd_options_lose_no_task(hand, of, options):
    hand.configure(QoS('dwrr', [SubQueue('x', 100, 1, algorithm='dwrr'), SubQueue('y', 100, 1)]))
    if of == 'sub:x':
        options = {'capacity': 100, **options}
    hand.redis.hset(keys.settings(hand.ns), of, json.dumps(options))
    hand.put('a', times=3, sub_queue='x')
    hand.put('b', times=3, sub_queue='y')
    hand.hire(slots=3)
    hand.put('a', times=3)
    hand.store.set('q', 'sub:y', {'egress': 2})
    served = []
    while read := hand.read():
        hand.finish(*read, seconds=0.5)
        served += [number_of(delivery.fields) for delivery in read]
    assert sorted(served) == list(range(1, 10))


@pytest.mark.parametrize('options', [
    {'capacity': []}, {'workers': []}, {'idle_threshold': None}, {'idle_timeout': 'x'}, {'streams': {}},
    {'algorithm': 7}, {'algorithm': 'newer'}], ids=str)
def test_odd_options_of_the_queue_do_not_keep_it_from_being_changed(hand, options):
    hand.put('a', times=2)
    hand.hire()
    hand.redis.hset(keys.settings(hand.ns), 'set:queue', json.dumps(options))
    hand.store.set('q', 'queue', {'idle_threshold': 3})
    hand.configure(QoS())
    hand.sweep()
    assert hand.serve(2) == ['a', 'a']
