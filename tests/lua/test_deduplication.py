"""A message that is published again, as the reply was lost, enters once."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, Tenant
from celery_qos.errors import ConfigError, QueueFull

ONCE = {'message_id': 'm', 'remember_seconds': 60}


@pytest.mark.parametrize('slots', [0, 1, 5])
def test_enters_once(hand, slots):
    if slots:
        hand.hire(slots=slots)
    hand.put('a', times=3, **ONCE)
    assert hand.store.size(hand.queue) == 1


def test_also_where_it_is_settled_already(hand):
    hand.hire()
    hand.put('a', **ONCE)
    hand.settle(*hand.read())
    assert hand.store.enqueue(hand.queue, 'a', 5, {'number': '2'}, **ONCE) == 'seen'
    assert hand.in_egress() == []


def test_also_where_it_is_delayed(hand):
    for _ in range(2):
        hand.put('a', due_ms=2 ** 42, task_id='x', **ONCE)
    assert hand.store.count_delayed(hand.queue) == 1


def test_others_and_those_without_an_id_enter(hand):
    hand.put('a', message_id='m', remember_seconds=60)
    hand.put('a', message_id='n', remember_seconds=60)
    hand.put('a', times=2, message_id='o', remember_seconds=None)
    hand.put('a', times=2)
    assert hand.store.size(hand.queue) == 6


def test_one_that_was_refused_may_be_published_again(hand):
    hand.configure(QoS(tenants={'a': Tenant(capacity=1)}))
    hand.put('a')
    with pytest.raises(QueueFull):
        hand.put('a', **ONCE)
    with pytest.raises(ConfigError):
        hand.put('a', sub_queue='none', **ONCE)
    hand.hire()
    hand.put('a', **ONCE)
    assert hand.store.size(hand.queue) == 2


def test_what_is_remembered_expires(hand):
    hand.put('a', message_id='m', remember_seconds=60)
    hand.put('a', message_id='n', remember_seconds=60)
    key, = [each for each in (keys.published(hand.ns, 0), keys.published(hand.ns, 1)) if hand.redis.exists(each)]
    assert 120_000 < hand.redis.pttl(key) <= 180_000


@pytest.mark.parametrize('left_ms', [1, 59_000, 119_000])
def test_what_comes_as_a_turn_begins_does_not_go_with_the_turn_before_last(hand, left_ms):
    hand.put('a', message_id='old', remember_seconds=60)
    key, = [each for each in (keys.published(hand.ns, 0), keys.published(hand.ns, 1)) if hand.redis.exists(each)]
    hand.redis.pexpire(key, left_ms)
    hand.redis.hdel(keys.state(hand.ns), 'published')       # a turn begins
    hand.put('a', **ONCE)
    assert hand.redis.hkeys(key) == [b'm']
    assert hand.redis.pttl(key) > 119_000


def test_two_windows_take_turns(hand):
    """An id is found for at least the window, whatever the time."""
    this, other = keys.published(hand.ns, 0), keys.published(hand.ns, 1)
    hand.put('a', **ONCE)
    if hand.redis.exists(other):
        this, other = other, this
    hand.redis.rename(this, other)      # the turn before
    hand.put('a', **ONCE)
    assert hand.store.size(hand.queue) == 1
