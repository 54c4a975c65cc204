"""How often a worker asks Redis: while it is busy, and while it is idle."""
from __future__ import annotations

from collections import Counter
from time import sleep

import pytest

from tests.until import until

from .ledger import Ledger
from .test_pools import POOLS

#: Tasks of a backlog.
TASKS = 400


@pytest.fixture(params=POOLS)
def pool(request):
    if request.param in ('gevent', 'eventlet'):
        pytest.importorskip(request.param)
    return request.param


def calls(redis) -> Counter:
    """How often each command came from a client; a script's own are not among those named."""
    found = redis.info('commandstats')
    return Counter({name: found.get(f'cmdstat_{name}', {}).get('calls', 0)
                    for name in ('evalsha', 'eval', 'xreadgroup', 'xread', 'blpop')})


@pytest.mark.parametrize('late', [False, True], ids=['early', 'late'])
@pytest.mark.parametrize('multiplier, most', [(4, 0.5), (1, 2)])
def test_of_a_backlog(server, redis, pool, late, multiplier, most):
    """Reads and settles a task, with 8 or 2 slots; and some for the start, the end and the lease."""
    ledger = Ledger(server, {'worker_prefetch_multiplier': multiplier, 'task_acks_late': late})
    with ledger.publishing() as send:
        for number in range(TASKS):
            send(f't{number % 7}', task='nothing')
    redis.config_resetstat()
    with ledger.worker(pool, concurrency=2):
        ledger.until_idle()
        asked = calls(redis)
    # On a machine that is busy with something else, some acks have waited for as long as they may.
    assert asked['xreadgroup'] + asked['evalsha'] <= most * TASKS + 60


@pytest.mark.parametrize('pool', [name for name in POOLS if name != 'solo'])
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


def test_of_an_idle_worker(server, redis):
    """At most one a second. As the sweeps are seldom, so are the waits for the bell, which last for ten seconds."""
    ledger = Ledger(server, {'broker_transport_options': {'qos': {'lease_seconds': 15}}})
    with ledger.worker('threads'):
        sleep(1)
        redis.config_resetstat()
        sleep(8)
        assert sum(calls(redis).values()) <= 8
