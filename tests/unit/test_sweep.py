"""When a sweep loop goes on, blocks, and wakes."""
from __future__ import annotations

import pytest

from celery_qos.store import Recovery, Sweep
from celery_qos.worker.sweep import MOST_INTERVALS, SHORTEST_BLOCK, Loop

NOW, INTERVAL = 100.0, 3.0


def sweep(**changes):
    return Sweep(**{'holds': True, 'idle_timeout': 1.0, **changes})


def waits(*sweeps):
    """Seconds until the next iteration, after each of them."""
    loop, found = Loop(), []
    for each in sweeps:
        loop.swept(each, NOW, INTERVAL)
        found.append(loop.at - NOW)
    return found


def test_a_blank_iteration_blocks():
    assert waits(sweep(idle_timeout=2.5)) == [2.5]


def test_as_many_blank_iterations_in_a_row_as_the_threshold_says():
    blank = sweep(idle_threshold=3)
    assert waits(*[blank] * 7) == [0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize('work', [{'moved': 1}, {'recoveries': (Recovery('dead', 0, 0, True),)}])
def test_after_one_that_did_something_the_next_follows_at_once_and_the_count_begins_anew(work):
    blank, busy = sweep(idle_threshold=2), sweep(idle_threshold=2, **work)
    assert waits(blank, busy, blank, blank) == [0, 0, 0, 1]


@pytest.mark.parametrize('due_ms, seconds', [(250, 0.25), (5000, 1.0), (0, SHORTEST_BLOCK)])
def test_a_block_ends_with_the_next_thing_that_is_due(due_ms, seconds):
    assert waits(sweep(due_ms=due_ms)) == [pytest.approx(seconds)]


def test_a_block_ends_before_the_place_is_lost():
    assert waits(sweep(idle_timeout=30)) == [MOST_INTERVALS * INTERVAL]


def test_without_a_place_it_is_asked_for_every_interval():
    assert waits(sweep(holds=False, idle_threshold=5, idle_timeout=0.1, due_ms=1)) == [INTERVAL]
