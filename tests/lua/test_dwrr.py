"""Dynamic weighted round-robin shares worker-seconds, whatever the tasks' lengths; time is simulated."""
from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from celery_qos.config import QoS, SubQueue, Tenant
from tests.lua.simulation import Simulation
from tests.lua.turns import fill, jain

pytestmark = pytest.mark.once

SECONDS = {'long': 0.34, 'short': 0.01}


def shares(service: dict[str, float]) -> dict[str, float]:
    return {name: seconds / sum(service.values()) for name, seconds in service.items()}


@pytest.mark.parametrize('early', [False, True], ids=['late', 'early'])
class TestUnequalDurations:
    @pytest.mark.parametrize('processes, slots, until', [(1, 1, 30), (2, 2, 30), (2, 8, 10), (8, 8, 10)])
    def test_equal_weights_are_equal_time(self, hand, early, processes, slots, until):
        hand.configure(QoS('dwrr'))
        fill(hand, [('long', 2 * until * processes), ('short', 55 * until * processes)])
        service = Simulation(hand, SECONDS.__getitem__, processes, slots, early).run(until)
        assert sum(service.values()) == pytest.approx(until * processes)
        assert shares(service)['long'] == pytest.approx(0.5, abs=0.05)
        print(f'{processes} processes, {slots} slots: {shares(service)}')

    def test_by_count_the_long_tasks_would_have_nearly_all(self, hand, early):
        hand.configure(QoS('wrr'))
        fill(hand, [('long', 100), ('short', 100)])
        service = Simulation(hand, SECONDS.__getitem__, early=early).run(30)
        assert shares(service)['long'] == pytest.approx(0.34 / 0.35, abs=0.01)
        print(shares(service))

    @pytest.mark.parametrize('heavy', SECONDS)
    def test_weights_3_and_1_are_3_times_the_time(self, hand, early, heavy):
        hand.configure(QoS('dwrr', tenants={heavy: Tenant(3)}))
        fill(hand, [('long', 100), ('short', 2500)])
        service = Simulation(hand, SECONDS.__getitem__, early=early).run(30)
        assert shares(service)[heavy] == pytest.approx(0.75, abs=0.05)

    def test_sub_queues_too(self, hand, early):
        hand.configure(QoS('dwrr', [SubQueue('x', 10_000, 1), SubQueue('y', 10_000, 1)]))
        fill(hand, [('long', 60)], 'x')
        fill(hand, [('short', 1700)], 'y')
        service = Simulation(hand, SECONDS.__getitem__, early=early).run(30)
        assert shares(service)['long'] == pytest.approx(0.5, abs=0.05)

    def test_inner_tenants_too(self, hand, early):
        hand.configure(QoS('dwrr'))
        fill(hand, [('acme\x1flong', 60), ('acme\x1fshort', 1700)])
        service = Simulation(hand, lambda path: SECONDS[path[5:]], early=early).run(30)
        assert shares(service)['acme\x1flong'] == pytest.approx(0.5, abs=0.05)

    def test_twenty_tenants_whose_tasks_take_what_they_take(self, hand, early):
        random = Random(1)
        usual = {f'tenant {number}': 10 ** random.uniform(-2, 0) for number in range(20)}
        hand.configure(QoS('dwrr'))
        fill(hand, [(name, int(12 / seconds)) for name, seconds in usual.items()])
        simulation = Simulation(hand, lambda name: usual[name] * 3 ** random.uniform(-1, 1), 4, 8, early)
        service = simulation.run(20)
        assert jain(service.values()) >= 0.95
        print(f"Jain's index {jain(service.values()):.4f}")


@pytest.mark.parametrize('early', [False, True], ids=['late', 'early'])
def test_a_task_that_takes_longer_than_all_before_is_paid_for_when_it_has_ended(hand, early):
    lengths = iter([0.1] * 10 + [20.0] + [0.1] * 1000)
    hand.configure(QoS('dwrr'))
    fill(hand, [('surprise', 500), ('steady', 500)])
    simulation = Simulation(hand, lambda name: next(lengths) if name == 'surprise' else 0.1, early=early)
    turns = [(task.at, task.tenant) for task in simulation.ended(60)]
    long = next(at for (before, _), (at, _) in pairwise(turns) if at - before > 1)
    # Now the other one makes up for it; at most the one that is in egress already comes before.
    assert {tenant for at, tenant in turns if long + 0.2 < at < long + 19.5} == {'steady'}
    assert shares(simulation.service)['surprise'] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('early', [False, True], ids=['late', 'early'])
@pytest.mark.parametrize('slots', [1, 3])
def test_one_that_drains_and_returns_pays_for_its_long_tasks(hand, early, slots):
    """Its next task comes when the last one has ended; what that cost is not known before."""
    lengths = Random(1)
    hand.configure(QoS('dwrr'))
    fill(hand, [('steady', 800), ('guest', 1)])
    simulation = Simulation(hand, lambda name: lengths.uniform(0.1, 3) if name == 'guest' else 0.1, 1, slots, early)
    for task in simulation.ended(80):
        if task.tenant == 'guest':
            hand.put('guest')
    guest = shares(simulation.service)['guest']
    # It may have less, as it is not always there, and never more.
    assert 0.4 <= guest <= 0.52
    print(f'{slots} slots: {guest:.3f}')


@pytest.mark.parametrize('seconds', [0.0, 1e-7, -5.0, float('nan')])
def test_tasks_that_take_no_time_do_not_keep_others_waiting(hand, seconds):
    hand.configure(QoS('dwrr'))
    fill(hand, [('quick', 100), ('other', 20)])
    hand.hire()
    turns = []
    for _ in range(60):
        task, = hand.read(at_most=1)
        turns.append(task.fields[b'tenant'])
        hand.finish(task, seconds=seconds if turns[-1] == b'quick' else 0.01)
    assert turns.count(b'other') >= 5
