"""A Redis that Sentinel watches over: whoever is master is found, and followed."""
from __future__ import annotations

from collections import Counter

import pytest
from celery import Celery
from kombu import Connection

from celery_qos import ConfigError

from ..until import until
from .ledger import Ledger
from .logs import ours
from .sentinels import NAME, PASSWORD, Deployment

pytestmark = pytest.mark.once
TRANSPORT = 'celery_qos.sentinel:SentinelTransport'


@pytest.fixture
def deployment(server, tmp_path):
    with Deployment(server.binary, tmp_path) as found:
        yield found


def test_a_failover(server, deployment):
    ledger = Ledger(deployment, deployment.conf(qos={'lease_seconds': 4}), book=server)
    first = deployment.master
    with ledger.worker('prefork', 2) as worker, ledger.worker('threads', 2) as other:
        for number in range(8):
            ledger.send('t', f'{number}', seconds=2.0, task='late')
        ledger.until('start', 4)
        deployment.server(first).wait(1, 5000)
        deployment.servers[first].kill()
        ledger.send('t', 'meanwhile', retry_policy={'max_retries': 60, 'interval_start': 0.2, 'interval_max': 0.2})
        assert deployment.master != first
        until(lambda: set(ledger.marks('end')) >= {*map(str, range(8)), 'meanwhile'})
        ledger.until_idle()
        for each in worker, other:
            lines = ours(each.log())
            assert not [line for line, count in Counter(lines).items() if count > 1], lines
            assert len(lines) <= 6, lines
            assert PASSWORD not in each.log()
            assert 'Traceback' not in each.log()
        worker.terminate()
        assert worker.wait() == 0
