"""`dwrr` gives equal worker time to tenants whose tasks last 340 ms and 10 ms; `wrr` gives equal turns."""
from __future__ import annotations

import json
from collections import Counter
from time import monotonic, sleep

import pytest
from celery import Celery

from celery_qos import keys

from .workers import Worker

LASTS = {'A': 0.34, 'B': 0.01}


def share_of_a(server, algorithm: str, pool: str, concurrency: int, task: str, seconds: float,
               charged: bool = False) -> float:
    """Of the worker time of `seconds` seconds, while both have tasks waiting all along.

    Arguments:
        charged: by the time that the worker reports, which on a busy machine is more than that of the tasks' bodies.
    """
    conf = {'worker_prefetch_multiplier': 1, 'broker_transport_options': {'qos': {'algorithm': algorithm}}}
    app = Celery('publisher', broker=server.url('qos'), set_as_current=False)
    app.conf.update(conf)
    redis, book = server.client(), server.client(db=2)
    with app.producer_pool.acquire(block=True) as producer:
        for tenant, lasts in LASTS.items():
            for _ in range(int(seconds * concurrency / lasts / (1 if algorithm == 'wrr' else 1.6))):
                app.send_task(f'tests.integration.apps.timed.{task}', (tenant, lasts), tenant=tenant, producer=producer)
    env = {'QOS_TEST_LEDGER': server.socket, 'QOS_TEST_CONF': json.dumps(conf)}
    took, count, paid = Counter(), Counter(), Counter()
    with Worker(server, pool, concurrency, 'tests.integration.apps.timed', env=env):
        began = monotonic()
        while monotonic() - began < seconds:
            sleep(0.1)
            before = count
            took = Counter({name.decode(): float(value) for name, value in book.hgetall('seconds').items()})
            count = Counter({name.decode(): int(value) for name, value in book.hgetall('count').items()})
            # What one costs goes by the latest ones, so it is asked for all along.
            costs = redis.hgetall(keys.averages(keys.namespace('celery')))
            for tenant, more in (count - before).items():
                cost = costs.get(f'tenant:{tenant}'.encode())
                if cost is not None:
                    assert float(cost) >= LASTS[tenant] or not charged
                    paid[tenant] += more * float(cost)
    if charged:
        took = paid
    print(f'{algorithm}, {pool} -c {concurrency}, {task} ack, {seconds:g} s: {count}, {took}')
    return took['A'] / sum(took.values())


@pytest.mark.full
def test_for_half_a_minute(server):
    assert share_of_a(server, 'dwrr', 'prefork', 2, 'early', 30) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize('pool, concurrency, task', [
    ('prefork', 2, 'late'), ('gevent', 4, 'early'),
    *(pytest.param(*each, marks=pytest.mark.once) for each in (
        ('threads', 4, 'early'), ('threads', 4, 'late'), ('gevent', 4, 'late'), ('solo', 1, 'early'),
        ('solo', 1, 'late')))])
def test_on_every_pool_early_and_late(server, pool, concurrency, task):
    """In so short a time, what the bound of fairness allows at a cold start is more."""
    if pool == 'gevent':
        pytest.importorskip('gevent')
    share = share_of_a(server, 'dwrr', pool, concurrency, task, 8, charged=True)
    assert share == pytest.approx(0.5, abs=0.12)


@pytest.mark.once
def test_turns_are_not_worker_time(server):
    assert share_of_a(server, 'wrr', 'threads', 4, 'late', 5) > 0.9
