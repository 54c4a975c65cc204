"""The bound of fairness: whatever happens, no two backlogged tenants drift apart by more than this.

While f and g stay backlogged, over every interval, ``|W_f/w_f - W_g/w_g| <= (D + 1) (cmax_f/w_f + cmax_g/w_g)``, where
W is the service of tasks that ended, w the weight, cmax the greatest cost of a task, D how many are in flight at most.

Jin, Chase, Kaur: Interposed proportional sharing for a storage service utility, SIGMETRICS 2004.

Costs that are estimated until a task has ended weaken it to ``2 D max(cmax_f/w_f, cmax_g/w_g)``, where cmax counts the
estimates too: f is served while its tag, estimates of at most D tasks included, is no greater than g's, and what is in
flight then ends. That is at most twice the bound, and needs estimates that were far too low once and too high later.
"""
from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random

import pytest

from celery_qos.config import QoS, Tenant
from tests.lua.hand import Hand
from tests.lua.simulation import Simulation
from tests.lua.turns import fill

pytestmark = pytest.mark.once

#: Of sums, and of the tiny distance that keeps newcomers in order.
ROUNDING = 1e-6


class Drift:
    """How far apart tenants are, per weight, over any interval in which both are backlogged.

    Arguments:
        weights: by tenant.
        depth: how many tasks are in flight at most.
    """

    def __init__(self, weights: dict[str, float], depth: int) -> None:
        self.weights, self.depth = weights, depth
        self.backlogged: set[str] = set()
        #: Service by weight.
        self.service = dict.fromkeys(weights, 0.0)
        #: The greatest cost of a task, by weight.
        self.greatest = dict.fromkeys(weights, 0.0)
        #: The least difference of f's and g's service since both are backlogged.
        self.least: dict[str, dict[str, float]] = {tenant: {} for tenant in weights}
        #: The widest interval of two tenants.
        self.widest: dict[tuple[str, str], float] = {}

    def became(self, backlogged: set[str]) -> None:
        """Exactly these are backlogged now."""
        for f in self.backlogged - backlogged:
            self._end(f)
        for f in backlogged - self.backlogged:
            for g in self.backlogged:
                self._begin(f, g)
            self.backlogged.add(f)

    def served(self, f: str, cost: float) -> None:
        """A task that was in flight has ended."""
        self.service[f] += cost / self.weights[f]
        self.charged(f, cost)
        if f in self.backlogged:
            mine = self.least[f]
            for g in self.backlogged:
                difference = self.service[f] - self.service[g]
                if difference < mine.get(g, 0):
                    mine[g] = difference
                if -difference < self.least[g].get(f, 0):
                    self.least[g][f] = -difference

    def charged(self, f: str, cost: float) -> None:
        """A task was taken to cost so much."""
        self.greatest[f] = max(self.greatest[f], cost / self.weights[f])

    def tightest(self, bound: Callable[[Drift, str, str], float]) -> float:
        """The part of `bound` that the widest interval of any pair used."""
        self.became(set())
        return max((width / bound(self, f, g) for (f, g), width in self.widest.items() if width > 0), default=0)

    def _begin(self, f: str, g: str) -> None:
        difference = self.service[f] - self.service[g]
        self.least[f][g], self.least[g][f] = difference, -difference

    def _end(self, f: str) -> None:
        self.backlogged.discard(f)
        for g in self.backlogged:
            width = -self.least[g].pop(f) - self.least[f].pop(g)
            self.widest[f, g] = max(self.widest.get((f, g), 0), width, self.widest.get((g, f), 0))


def of_known_costs(drift: Drift, f: str, g: str) -> float:
    return (drift.depth + 1) * (drift.greatest[f] + drift.greatest[g])


def of_estimated_costs(drift: Drift, f: str, g: str) -> float:
    return 2 * drift.depth * max(drift.greatest[f], drift.greatest[g])


def trace(hand: Hand, algorithm: str, random: Random, tenants: int, early: bool = False,
          warm: bool = True) -> tuple[Drift, Drift]:
    """How far tenants drift by what tasks cost, and the same with the estimates counted as costs of tasks too.

    Arguments:
        warm: each tenant had a task before, so that there is something to estimate from.
    """
    names = [f'tenant {number}' for number in range(tenants)]
    weights = {name: 10 ** random.uniform(-2, 3) for name in names}
    usual = {name: 10 ** random.uniform(-3, 1) for name in names}
    spread = random.choice([1, 2, 10])
    slots, rate = random.randint(1, 64), random.choice([0.3, 0.6, 0.9])
    processes = random.randint(1, slots) if early else slots
    hand.configure(QoS(algorithm=algorithm, tenants={name: Tenant(weight) for name, weight in weights.items()}))
    simulation = Simulation(hand, lambda name: usual[name] * spread ** random.uniform(-1, 1), processes, slots, early)
    if warm:
        fill(hand, [(name, 1) for name in names])
        simulation.run(inf)
    simulation.arrivals()

    waiting = dict.fromkeys(names, 0)
    drifts = [Drift(weights, slots + processes if early else slots) for _ in range(2)]

    def publish(some: list[tuple[str, int]]) -> None:
        fill(hand, some)
        for name, times in some:
            waiting[name] += times
        simulation.start()
        look()

    def look() -> None:
        for delivery in simulation.arrivals():
            name = delivery.fields[b'tenant'].decode()
            waiting[name] -= 1
            drifts[1].charged(name, float(delivery.fields.get(b'tracked', 1)))
        backlogged = {name for name, count in waiting.items() if count}
        for drift in drifts:
            drift.became(backlogged)

    publish([(name, random.choice([0, 1, 10, 40] if tenants <= 40 else [0, 1, 8])) for name in names])
    for done, task in enumerate(simulation.ended(inf)):
        look()
        for drift in drifts:
            drift.served(task.tenant, task.seconds if algorithm == 'dwrr' else 1)
        if done < 500 and random.random() < rate:
            publish([(random.choice(names), random.choice([1, 1, 3, 6]))])
    return drifts[0], drifts[1]


def report(record_property, trace: str, drift: Drift, tightest: float) -> None:
    record_property('tightest', tightest)
    print(f'{trace}, {len(drift.weights)} tenants, {drift.depth} in flight: the tightest interval used '
          f'{tightest:.1%} of the bound')


@pytest.mark.parametrize('tenants, seed', [(2, 23), (2, 25), (3, 11), (5, 16), (12, 11), (40, 12), (40, 26), (200, 1)])
@pytest.mark.parametrize('mode', ['wrr', 'dwrr', 'dwrr, early'])
def test_backlogged_tenants_stay_within_the_bound(hand, mode, tenants, seed, record_property):
    algorithm, _, early = mode.partition(', ')
    drift, _ = trace(hand, algorithm, Random(f'{seed} {tenants}'), tenants, bool(early))
    tightest = drift.tightest(of_known_costs)
    report(record_property, mode, drift, tightest)
    assert 0.01 < tightest <= 1 + ROUNDING


@pytest.mark.parametrize('tenants, seed', [(2, 15), (3, 11), (5, 21), (12, 11), (12, 24), (40, 12)])
def test_where_nothing_is_known_of_a_tenant_the_guess_counts_as_a_cost(hand, tenants, seed, record_property):
    """It may be far more than what the tenant's first tasks take, which nobody knows until one of them has ended."""
    _, drift = trace(hand, 'dwrr', Random(f'{seed} {tenants}'), tenants, warm=False)
    tightest = drift.tightest(of_estimated_costs)
    report(record_property, 'dwrr from nothing', drift, tightest)
    assert 0.01 < tightest <= 1 + ROUNDING
