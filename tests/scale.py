"""What the server does per act, by the number of backlogged tenants: ``python -m tests.scale [tenants ...]``.

Takes 5 KB of memory a tenant. The server is one's own; times are those that it states in ``INFO commandstats``.
"""
from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from celery_qos.config import ALGORITHMS, QoS
from celery_qos.embedded import EmbeddedRedis
from celery_qos.scripts import script
from celery_qos.store import Store
from tests.lua.hand import Hand
from tests.lua.turns import fill

#: Acts per measurement, and measurements, of which the fastest counts: others use the machine too.
ACTS, ROUNDS = 500, 7


class Cost(NamedTuple):
    """Of one call of a script."""

    micros: float
    #: Commands that the script runs.
    commands: float


def measured(hand: Hand, act: Callable[[], None], times: int) -> Cost:
    """What `act` costs the server, which calls scripts so many times."""
    hand.redis.config_resetstat()
    act()
    stats = hand.redis.info('commandstats')
    scripts = {name: row for name, row in stats.items() if name in ('cmdstat_evalsha', 'cmdstat_eval')}
    outside = {'cmdstat_config|resetstat', 'cmdstat_config', 'cmdstat_info', 'cmdstat_xreadgroup', 'cmdstat_hello',
               'cmdstat_client', 'cmdstat_client|setinfo', *scripts}
    assert sum(row['calls'] for row in scripts.values()) == times
    return Cost(sum(row['usec'] for row in scripts.values()) / times,
                sum(row['calls'] for name, row in stats.items() if name not in outside) / times)


def costs(hand: Hand, tenants: int, algorithm: str, acts: int = ACTS, rounds: int = ROUNDS) -> dict[str, Cost]:
    """Of ending a task, which dispatches the next one, and of publishing one, with so many tenants backlogged."""
    for name in 'settle', 'finished':
        hand.redis.script_load(script(name).source)
    hand.configure(QoS(algorithm))
    # Enough that none drains, were they all of ten.
    depth = 2 + acts * rounds * 2 // tenants
    fill(hand, ((f'tenant {number}', depth) for number in range(tenants)))
    # No tenant has two tasks in flight, with any number of tenants.
    hand.hire(slots=8)
    names = (f'tenant {(number * 7919) % tenants}' for number in range(10 ** 9))
    end, publish = [], []
    for _ in range(rounds):
        end.append(measured(hand, lambda: end_each(hand, acts), acts))
        some = list(islice(names, acts))
        publish.append(measured(hand, lambda some=some: publish_each(hand, some), acts))
    return {'end': min(end), 'publish': min(publish)}


def end_each(hand: Hand, times: int) -> None:
    for _ in range(times):
        hand.finish(*hand.read(at_most=1))


def publish_each(hand: Hand, tenants: list[str]) -> None:
    for tenant in tenants:
        hand.put(tenant)


def table(tenants: list[int], algorithm: str) -> Iterator[str]:
    yield f'{algorithm:5} {"tenants":>10} {"end and dispatch":>20} {"publish":>20} {"memory":>10}'
    for count in tenants:
        with EmbeddedRedis() as redis:
            hand = Hand(Store(redis.client()))
            found = costs(hand, count, algorithm)
            columns = [f'{cost.micros:5.1f} us {cost.commands:4.1f} cmds' for cost in found.values()]
            memory = hand.redis.info('memory')['used_memory'] / 2 ** 20
            yield f'{"":5} {count:>10,} {columns[0]:>20} {columns[1]:>20} {memory:7.0f} MB'


def main() -> None:
    parser = ArgumentParser(prog='python -m tests.scale', description=__doc__)
    parser.add_argument('tenants', nargs='*', type=int, default=[10, 1000, 100_000])
    parser.add_argument('--algorithm', choices=ALGORITHMS, default='wrr')
    options = parser.parse_args()
    for line in table(options.tenants, options.algorithm):
        print(line, flush=True)


if __name__ == '__main__':
    main()
