"""The reason for it all: a tenant with one task does not wait behind a tenant with a thousand."""
from __future__ import annotations

import pytest

import celery_qos
from celery_qos import QoS, Tenant

from .ledger import Ledger


def started_before_small(server, scheme: str) -> int:
    """A has 1,000 tasks waiting when B sends 1, and a worker with one slot starts: how many of A's go before B's."""
    conf = {'worker_prefetch_multiplier': 1}
    ledger = Ledger(server, conf, scheme)
    with ledger.publishing() as send:
        for number in range(1000):
            send('A', f'a{number}', seconds=0.002)
        send('B', 'b')
    with ledger.worker('solo', 1):
        starts = ledger.until('start', 1001, timeout=60)
    return starts.index('b')


def test_one_task_does_not_wait_behind_a_thousand(server):
    assert started_before_small(server, 'qos') <= 1, 'more than one turn'


@pytest.mark.once
def test_the_stock_transport_serves_the_thousand_first(server):
    assert started_before_small(server, 'redis') == 1000


def shares(starts: list[str], first: int) -> dict[str, int]:
    return {tenant: sum(mark == tenant for mark in starts[:first]) for tenant in set(starts)}


def test_plans_are_weights_and_can_be_changed_while_tasks_wait(server):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    celery_qos.setup(ledger.app, QoS(tenants={'gold': Tenant(weight=3)}))
    control = celery_qos.control(ledger.app)
    with ledger.publishing() as send:
        for _ in range(200):
            send('gold', 'gold')
            send('free', 'free')
    assert control.tenant('gold')['weight'] == 3
    with ledger.worker('solo', 1):
        ledger.until('start', 400)
    assert abs(shares(ledger.marks('start'), 200)['gold'] - 150) <= 3

    ledger.server.client(db=2).flushdb()
    with ledger.publishing() as send:
        for _ in range(200):
            send('gold', 'gold')
            send('free', 'free')
    control.set_tenant('gold', weight=1 / 3)
    with ledger.worker('solo', 1):
        ledger.until('start', 400)
    assert abs(shares(ledger.marks('start'), 200)['gold'] - 50) <= 3
    control.set_tenant('gold', weight=None)
    assert control.tenant('gold')['weight'] == 3
