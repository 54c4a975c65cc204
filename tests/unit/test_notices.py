"""A line about each subject now and then, and none that stays out uncounted."""
from __future__ import annotations

import logging

import pytest

from celery_qos import notices
from celery_qos.notices import INTERVAL, Notices


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    times = [100.0]
    monkeypatch.setattr(notices, 'monotonic', lambda: times[0])
    return times


def test_the_first_is_logged_and_the_others_are_counted(clock, caplog):
    caplog.set_level(logging.WARNING)
    log = Notices()
    for _ in range(5):
        log.warn('a', 'tenant %r is full', 'a')
    log.warn('b', 'tenant %r is full', 'b')
    clock[0] += INTERVAL
    log.warn('a', 'tenant %r is full', 'a')
    clock[0] += INTERVAL
    log.warn('a', 'tenant %r is full', 'a')
    assert [record.getMessage() for record in caplog.records] == [
        "tenant 'a' is full", "tenant 'b' is full", "tenant 'a' is full (and 4 more times in the last 10 s)",
        "tenant 'a' is full"]


def test_any_number_of_subjects_does_not_fill_memory(clock, caplog):
    log = Notices()
    for number in range(5000):
        log.warn(number, 'full')
    assert len(log._logged) <= 1001
