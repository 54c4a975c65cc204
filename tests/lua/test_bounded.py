"""No call of a script does more than so much, however much there is to do: Redis serves nobody else meanwhile."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.scripts import Script, script
from tests.lua.hand import Hand, number_of
from tests.lua.test_idle_slots import Life
from tests.lua.turns import fill

#: Commands that the server runs in one call; they take 1 to 3 us each.
MOST_COMMANDS = 1000
#: Tasks that one call moves to egress.
MOST_TASKS = 50
MANY = 400


class Counting:
    """Keeps what each call of a script came to.

    Arguments:
        hand: whose queue's egress is looked at.
    """

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.commands: list[int] = []
        self.moved: list[int] = []
        # What is sent first has the script compiled, and sent again.
        for name in ('lease', 'fill', 'settle', 'requeue', 'release', 'reclaim', 'sweep', 'purge', 'set', 'declare',
                     'get'):
            hand.redis.script_load(script(name).source)

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same, counted."""
        def counted(*args):
            redis, egress = self.hand.redis, keys.egress(self.hand.ns)
            before = redis.xlen(egress)
            redis.config_resetstat()
            reply = call(*args)
            self.commands.append(sum(row['calls'] for row in redis.info('commandstats').values()))
            self.moved.append(redis.xlen(egress) - before)
            return reply
        return counted


@pytest.fixture
def counting(hand, monkeypatch) -> Counting:
    counting = Counting(hand)
    yield counting
    assert max(counting.commands) <= MOST_COMMANDS
    assert max(counting.moved) <= MOST_TASKS


def count(counting: Counting, monkeypatch, act) -> None:
    with monkeypatch.context() as patch:
        redis, wire = counting.hand.redis, counting.hand.store._wire
        patch.setattr(redis, 'evalsha', counting.of(redis.evalsha))
        patch.setattr(wire, 'send', counting.of(wire.send))
        act()


def names(number: int = MANY) -> list[str]:
    return [f'tenant {each}' for each in range(number)]


def backlog(hand: Hand, tasks: int = 1, **options) -> None:
    hand.configure(QoS(**options))
    fill(hand, ((name, tasks) for name in names()))


def sweep_all(hand: Hand) -> None:
    while hand.store.sweep(hand.queue, 600, 'sweeper').moved:
        pass


class TestCalls:
    @pytest.mark.parametrize('algorithm', ['wrr', 'dwrr'])
    def test_a_worker_comes_with_slots(self, hand, counting, monkeypatch, algorithm):
        backlog(hand, algorithm=algorithm)
        count(counting, monkeypatch, lambda: hand.hire(slots=MANY))
        assert len(hand.in_egress()) == MANY

    def test_it_settles_all(self, hand, counting, monkeypatch):
        backlog(hand, 2)
        hand.hire(slots=MANY)
        held = hand.read()
        count(counting, monkeypatch, lambda: hand.settle(*held))
        assert len(hand.in_egress()) == MANY

    def test_it_reports_the_end_of_all(self, hand, counting, monkeypatch):
        backlog(hand, 2, algorithm='dwrr', default_tenant=Tenant(max_in_flight=1))
        hand.hire(slots=MANY)
        held = hand.read()
        count(counting, monkeypatch, lambda: hand.finish(*held, seconds=1))
        assert len(hand.in_egress()) == MANY

    @pytest.mark.parametrize('counted', [True, False])
    def test_it_gives_all_back(self, hand, counting, monkeypatch, counted):
        backlog(hand)
        hand.hire(slots=MANY)
        held = hand.read()
        count(counting, monkeypatch, lambda: hand.requeue(*held, counted=counted))
        assert hand.in_egress() == [number_of(each.fields) for each in held]

    def test_it_leaves(self, hand, counting, monkeypatch):
        backlog(hand)
        hand.hire(slots=MANY)
        held = hand.read()
        count(counting, monkeypatch, lambda: hand.store.release(hand.queue, 'w'))
        assert hand.in_egress() == [number_of(each.fields) for each in held]

    @pytest.mark.parametrize('streams', [1, 3])
    def test_it_reconnects(self, hand, counting, monkeypatch, streams):
        backlog(hand, egress={'streams': streams})
        hand.hire(slots=MANY)
        held = [each.entry_id for each in hand.read()]
        kept = held[::7]
        count(counting, monkeypatch, lambda: hand.store.reclaim(hand.queue, 'w', kept))
        assert sorted(each.entry_id for each in hand.egress() if each.owner) == sorted(kept)
        assert len(hand.egress()) == MANY

    @pytest.mark.parametrize('workers', [1, 20])
    def test_workers_die(self, hand, counting, monkeypatch, workers):
        backlog(hand, 2)
        for number in range(workers):
            hand.hire(f'w{number}', MANY // workers)
            hand.read(f'w{number}')
            hand.end_lease(f'w{number}')
        hand.hire('lives', 10)
        count(counting, monkeypatch, lambda: sweep_all(hand))
        assert not [entry for entry in hand.egress() if entry.owner]
        assert {entry.failures for entry in hand.egress() if entry.redelivered} == {1}

    def test_what_waited_in_a_dead_worker_is_not_to_blame(self, hand):
        backlog(hand)
        hand.store.lease(hand.queue, 'w', 100, 600, suspects=45)
        hand.read()
        hand.end_lease()
        sweep_all(hand)
        assert [entry.failures for entry in hand.egress()] == [1] * 45 + [0] * 55

    def test_delayed_tasks_come_due(self, hand, counting, monkeypatch):
        hand.configure(QoS())
        for name in names(100):
            hand.put(name, task_id=name, due_ms=2 ** 42)
        hand.redis.zunionstore(keys.delayed(hand.ns), {keys.delayed(hand.ns): 1e-9})
        hand.hire(slots=50)
        count(counting, monkeypatch, lambda: sweep_all(hand))
        assert len(hand.in_egress()) == 50 and hand.store.size(hand.queue) == 100

    def test_tasks_expire(self, hand, counting, monkeypatch):
        hand.configure(QoS())
        seconds, _ = hand.redis.time()
        for name in names(100):
            hand.store.enqueue(hand.queue, name, 5, {'expires': str(seconds * 1000 + 10 ** 6), 'tenant': name})
        for key in hand.redis.keys(f'{hand.ns}:tenant:*'):
            hand.redis.delete(key)
            hand.redis.xadd(key, {'expires': '1'})
        hand.put('lives')
        count(counting, monkeypatch, hand.hire)
        assert len(hand.in_egress()) == 1

    def test_a_purge(self, hand, counting, monkeypatch):
        backlog(hand)
        hand.hire(slots=60)
        hand.read(at_most=5)
        count(counting, monkeypatch, lambda: hand.store.purge(hand.queue))
        assert len(hand.in_egress()) == 5

    @pytest.mark.parametrize('of, options', [
        ('default', {'weight': 2}), ('queue', {'algorithm': 'rr'}), ('queue', {'algorithm': 'pq'}),
        ('default', {'paused': True}), ('default', {'max_in_flight': 1})])
    def test_a_change_for_all(self, hand, counting, monkeypatch, of, options):
        backlog(hand, 2)
        hand.hire(slots=2)
        count(counting, monkeypatch, lambda: hand.store.set(hand.queue, of, options))
        # Those of which some has ended meanwhile are looked at again.
        held = hand.read()
        count(counting, monkeypatch, lambda: (hand.settle(*held), sweep_all(hand)))
        assert len(hand.in_egress()) == (0 if 'paused' in options else 2)

    def test_all_are_paused_and_resumed(self, hand, counting, monkeypatch):
        backlog(hand)
        hand.store.set(hand.queue, 'default', {'paused': True})
        count(counting, monkeypatch, lambda: hand.hire(slots=1000))
        assert hand.redis.zcard(keys.parked(hand.ns)) == MANY
        count(counting, monkeypatch, lambda: hand.store.set(hand.queue, 'default', {'paused': False}))
        assert len(hand.in_egress()) == MANY

    def test_one_task_is_got_from_behind_many_that_are_paused(self, hand, counting, monkeypatch):
        backlog(hand, default_tenant=Tenant(paused=True), tenants={'free': Tenant()})
        hand.put('free')
        got = []
        count(counting, monkeypatch, lambda: got.append(hand.store.get(hand.queue, 'w', 1, 600)))
        assert got[0].fields[b'tenant'] == b'free'


class TestChanges:
    """What holds while a change that many wait for is under way."""

    CHANGES = [('default', '{"weight": 4}', 'weight', '4'), ('queue', '', 'algorithm', '"rr"'),
               ('queue', '', 'algorithm', '"pq"'), ('queue', '', 'algorithm', '"dwrr"')]

    def begin(self, hand, of, option, value) -> None:
        """As an operator whose program ends after the first call."""
        assert script('set')(hand.redis, [hand.ns], of, option, value) == [1, 1]

    @pytest.mark.parametrize('of, _, option, value', CHANGES)
    def test_no_slot_is_idle_and_no_task_is_lost(self, hand, of, _, option, value):
        backlog(hand, 2)
        hand.hire(slots=10)
        self.begin(hand, of, option, value)
        seen = []
        while held := hand.read():
            assert len(held) == 10 or len(seen) > 2 * MANY - 10
            seen += [number_of(each.fields) for each in held]
            hand.finish(*held)
            if len(seen) % 50 == 0:
                hand.sweep()
        assert sorted(seen) == list(range(1, 2 * MANY + 1))
        hand.store.release(hand.queue, 'w')
        assert hand.all_keys() == {'settings'}

    @pytest.mark.parametrize('of, _, option, value', CHANGES)
    def test_sweeps_go_on_with_it_without_a_pause(self, hand, of, _, option, value):
        backlog(hand)
        self.begin(hand, of, option, value)
        assert hand.redis.exists(keys.bell(hand.ns))
        assert hand.redis.zcard(keys.ready(hand.ns)) < MANY
        sweep_all(hand)
        assert hand.redis.zcard(keys.ready(hand.ns)) == MANY
        assert not hand.redis.exists(keys.moving(hand.ns), keys.aside(hand.ns, 'ready'))

    def test_another_weight_corrects_the_tags_of_all(self, hand):
        """As if it were done at once, where none is served meanwhile."""
        backlog(hand, 3, tenants={'tenant 7': Tenant(5)})
        hand.put('once')
        hand.hire(slots=1)
        hand.serve(MANY + 100)
        before = dict(hand.redis.zrange(keys.ready(hand.ns), 0, -1, withscores=True))
        vtime = hand.state()['vtime:']
        hand.store.set(hand.queue, 'default', {'weight': 4})
        after = dict(hand.redis.zrange(keys.ready(hand.ns), 0, -1, withscores=True))
        assert after == {each: pytest.approx(vtime + (tag - vtime) / (1 if each == b':tenant 7' else 4))
                         for each, tag in before.items()}

    @pytest.mark.parametrize('default', [1, 4])
    def test_so_do_other_weights_of_many_tenants(self, hand, default):
        """Some are named in both configs, some in one only."""
        before = dict.fromkeys(names(200), Tenant(2))
        after = dict.fromkeys(names()[100:300], Tenant(5))
        backlog(hand, 3, tenants=before)
        hand.hire(slots=1)
        hand.serve(MANY + 100)
        tags = dict(hand.redis.zrange(keys.ready(hand.ns), 0, -1, withscores=True))
        vtime = hand.state()['vtime:']
        hand.configure(QoS(tenants=after, default_tenant=Tenant(default)))

        def ratio(each: bytes) -> float:
            tenant = each.decode()[1:]
            weights = [named[tenant].weight if tenant in named else other
                       for named, other in ((before, 1), (after, default))]
            return weights[0] / weights[1]

        assert dict(hand.redis.zrange(keys.ready(hand.ns), 0, -1, withscores=True)) == {
            each: pytest.approx(vtime + (tag - vtime) * ratio(each)) for each, tag in tags.items()}
        assert not [key for key in hand.all_keys() if key.startswith(('aside', 'moving'))]

    def test_many_tenants_that_were_paused_are_served(self, hand):
        hand.configure(QoS(tenants={name: Tenant(paused=True) for name in names()}))
        fill(hand, ((name, 1) for name in names()))
        hand.hire(slots=MANY)
        assert hand.in_egress() == []
        hand.configure(QoS(tenants={name: Tenant(2) for name in names()}))
        assert len(hand.in_egress()) == MANY

    @pytest.mark.parametrize('weight, turns', [(3, 400), (1 / 3, 1200)])
    def test_another_weight_holds_when_it_is_done(self, hand, weight, turns):
        hand.configure(QoS(tenants={'named': Tenant(MANY)}))
        fill(hand, [('named', 3000), *((name, 6) for name in names())])
        hand.hire()
        assert hand.serve(2 * MANY).count('named') == pytest.approx(MANY, abs=3)
        hand.store.set(hand.queue, 'default', {'weight': weight})
        assert hand.serve(4 * MANY).count('named') == pytest.approx(turns, abs=12)

    def test_another_algorithm_keeps_the_order_of_turns(self, hand):
        backlog(hand, 2)
        hand.hire()
        first = hand.serve(30)
        hand.store.set(hand.queue, 'queue', {'algorithm': 'rr'})
        # The next one is delivered already.
        assert hand.serve(MANY) == names()[30:] + first

    def test_the_next_change_waits_for_it(self, hand):
        backlog(hand)
        self.begin(hand, 'default', 'weight', '4')
        assert script('set')(hand.redis, [hand.ns], 'default', 'weight', '2') == [-1]
        assert hand.store.set(hand.queue, 'default', {'weight': 2})
        assert hand.store.settings(hand.queue, 'default')['weight'] == 2
        self.begin(hand, 'queue', 'algorithm', '"rr"')
        hand.configure(QoS(default_tenant=Tenant(3)))
        assert not hand.redis.exists(keys.moving(hand.ns))
        assert hand.redis.zcard(keys.ready(hand.ns)) == MANY

    @pytest.mark.parametrize('act', ['purge', 'delete'])
    @pytest.mark.parametrize('of, _, option, value', CHANGES)
    def test_nothing_is_left_of_it_when_all_go(self, hand, act, of, _, option, value):
        backlog(hand)
        self.begin(hand, of, option, value)
        getattr(hand.store, act)(hand.queue)
        assert hand.all_keys() == ({'settings'} if act == 'purge' else set())

    def test_every_sub_queue_has_turns_meanwhile(self, hand):
        subs = [SubQueue(name, 10_000, 1) for name in ('x', 'y')]
        hand.configure(QoS(queues=subs))
        for name in 'x', 'y':
            fill(hand, ((each, 2) for each in names()), name)
        hand.hire()
        self.begin(hand, 'default', 'weight', '4')
        turns = []
        for _ in range(20):
            task, = hand.read()
            turns.append(task.fields[b'sub'])
            hand.finish(task)
        assert turns.count(b'x') == 10
        sweep_all(hand)
        assert [hand.redis.zcard(keys.ready(hand.ns, name)) for name in 'xy'] == [MANY, MANY]

    def test_who_is_blocked_meanwhile_is_not_in_two_places(self, hand):
        backlog(hand, 2, tenants={name: Tenant(max_in_flight=1) for name in names(30)})
        hand.hire(slots=60)
        hand.store.set(hand.queue, 'default', {'paused': True})
        sweep_all(hand)
        script('set')(hand.redis, [hand.ns], 'default', 'paused', 'false')
        held = hand.read()
        hand.put('tenant 399')
        hand.finish(*held)
        sweep_all(hand)
        ready = set(hand.redis.zrange(keys.ready(hand.ns), 0, -1))
        assert not ready & set(hand.redis.zrange(keys.parked(hand.ns), 0, -1))
        assert not hand.redis.exists(keys.woken(hand.ns))


class InSteps(Life):
    """As `Life`, with what a call left over done before one looks."""

    def check(self) -> None:
        sweep_all(self.hand)
        super().check()


@pytest.fixture
def small_steps(monkeypatch) -> None:
    """A call does so little that the least act takes several."""
    compose = Script.__init__

    def small(self, name: str) -> None:
        compose(self, name)
        self.source = self.source.replace('work.MOST = 40', 'work.MOST = 3').replace(
            'RECOVERED, MOVED, DUE = 15, 24, 32', 'RECOVERED, MOVED, DUE = 1, 2, 2.5')
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    monkeypatch.setattr(Script, '__init__', small)
    script.cache_clear()
    yield
    script.cache_clear()


@pytest.mark.parametrize('seed', range(25))
def test_in_small_steps_no_limit_is_exceeded_no_slot_is_idle_and_no_task_is_lost(small_steps, hand, seed):
    assert 'work.MOST = 3\n' in script('settle').source
    InSteps(hand, Random(seed)).goes_by()
