"""Acks that a reader sends together with its next read."""
from __future__ import annotations

import pytest

from celery_qos.store import IDS_PER_CALL, Tracked
from celery_qos.worker.settler import Settler


class Told:
    """In the place of a store: notes what it is told."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, list[str]]] = []

    def settle(self, queue, ids):
        self.settled.append((queue, list(ids)))

    def settle_command(self, queue, ids):
        return ['EVALSHA', queue, *ids]

    def finished(self, queue, consumer, tasks):
        pass


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def settler(told):
    return Settler(told)


def commands(batches):
    return [batch.command for batch in batches]


def test_one_command_for_each_queue(settler):
    settler.settle('a', '1-0')
    settler.settle('b', '2-0')
    settler.settle('a', '3-0')
    assert len(settler) == 3
    assert commands(settler.hand_out()) == [['EVALSHA', 'a', '1-0', '3-0'], ['EVALSHA', 'b', '2-0']]
    assert len(settler) == 0


def test_what_is_handed_out_is_unsent_until_it_is_said_to_be(settler, told):
    settler.settle('a', '1-0')
    batch, = settler.hand_out()
    settler.settle('a', '2-0')
    assert settler.unsent == [('a', '1-0'), ('a', '2-0')]
    settler.sent(batch)
    assert settler.unsent == [('a', '2-0')]
    settler.flush()
    assert told.settled == [('a', ['2-0'])]


def test_what_may_not_have_arrived_is_sent_again_before_the_rest(settler, told):
    settler.settle('a', '1-0')
    settler.settle('a', '2-0')
    batch, = settler.hand_out()
    settler.settle('a', '3-0')
    settler.take_back(batch)
    settler.flush()
    assert told.settled == [('a', ['1-0', '2-0', '3-0'])]
    assert settler.unsent == []


def test_ends_and_rejects_are_not_for_others_to_send(settler):
    settler.settle('a', '1-0')
    settler.finished('a', 'me', Tracked('2-0', '', 't', '1'))
    assert not settler.only_acks
    assert settler.hand_out() == []
    settler.flush()
    assert settler.only_acks


def test_no_command_is_longer_than_lua_can_take(settler):
    for number in range(IDS_PER_CALL + 1):
        settler.settle('a', f'{number}-0')
    first, = settler.hand_out()
    assert len(first.outcomes) == IDS_PER_CALL
    assert len(settler) == 1


def test_nothing_while_another_thread_sends(settler):
    settler.settle('a', '1-0')
    with settler._lock:
        assert settler.hand_out() == []
    assert len(settler.hand_out()) == 1
