"""Acks go to Redis together, but wait for nothing that takes long."""
from __future__ import annotations

import pytest

from tests.until import until

from .ledger import Ledger
from .pools import EVERY_POOL


@pytest.mark.parametrize('pool', [pool for pool in EVERY_POOL if 'solo' not in (pool, *getattr(pool, 'values', ()))])
def test_acks_wait_for_no_running_task(server, redis, pool):
    """Acks that wait for others go nevertheless while what was acknowledged runs, and the rest waits for its end."""
    if pool in ('gevent', 'eventlet'):
        pytest.importorskip(pool)
    ledger = Ledger(server, {'worker_prefetch_multiplier': 8})
    with ledger.worker(pool, concurrency=1):
        with ledger.publishing() as send:
            send('t', 'first')
            send('t', 'long', task='held_early')
            for number in range(6):
                send('t', f'{number}')
        ledger.until('start', 2)
        # Only what has not started is unsettled, far sooner than the long one ends.
        until(lambda: redis.xlen('{qos:celery:0}:egress') == 6, timeout=2)
        ledger.let_end('long')
        ledger.until_idle()
