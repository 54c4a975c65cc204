"""Settings that change while tasks wait."""
from __future__ import annotations

from collections import Counter

import pytest

from celery_qos import keys
from celery_qos.config import ALGORITHMS, QoS, SubQueue, Tenant
from celery_qos.embedded import EmbeddedRedis
from celery_qos.errors import ConfigError
from celery_qos.store import FORGET, Store
from tests.lua.contest import LEVELS, Contest
from tests.lua.hand import Hand, number_of
from tests.lua.turns import backlog, fill


class TestWeights:
    def test_act_on_waiting_tasks(self, hand):
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.serve(20)

        hand.set_weight('a', 3)

        assert 59 <= hand.serve(80).count('a') <= 61

    def test_a_tenant_that_was_held_down_does_not_wait_out_its_old_weight(self, hand):
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.set_weight('a', 0.001)
        hand.serve(20)

        hand.set_weight('a', 1)

        assert 9 <= hand.serve(20).count('a') <= 11

    def test_nor_does_one_that_drained_meanwhile(self, hand):
        hand.set_weight('a', 0.001)
        hand.put('a')
        hand.put('b', times=100)
        hand.hire()
        hand.serve(10)

        hand.set_weight('a', 1)

        hand.put('a', times=20)
        assert 9 <= hand.serve(20).count('a') <= 11

    @pytest.mark.parametrize('before, after', [
        (QoS(tenants={'a': Tenant(0.001)}), QoS()),
        (QoS(tenants={'a': Tenant(0.001)}), QoS(tenants={'a': Tenant(1)})),
        (QoS(default_tenant=Tenant(0.001), tenants={'b': Tenant(1)}), QoS(tenants={'b': Tenant(1)}))])
    def test_so_does_a_new_config(self, hand, before, after):
        hand.configure(before)
        hand.put('a', times=50)
        hand.put('b', times=50)
        hand.hire()
        hand.serve(20)

        hand.configure(after)

        assert 9 <= hand.serve(20).count('a') <= 11

    def test_none_goes_back_to_the_config(self, hand):
        hand.configure(QoS(tenants={'a': Tenant(3)}))
        backlog(hand, {'a': 1, 'b': 1}, turns=400)
        hand.serve(20)

        hand.set_weight('a', None)

        assert hand.weight('a') == 3
        assert 59 <= hand.serve(80).count('a') <= 61

    def test_of_the_default_tenant(self, hand):
        hand.configure(QoS(tenants={'named': Tenant(1)}))
        fill(hand, [('named', 100), ('other', 300)])
        hand.hire()
        hand.serve(10)
        hand.store.set('q', 'default', {'weight': 3})
        assert 59 <= hand.serve(80).count('other') <= 61

    def test_of_an_inner_tenant(self, hand):
        contest = Contest(hand, 'inner tenants', 'wrr', {'a': 1, 'b': 1})
        contest.put('a', 200)
        contest.put('b', 200)
        contest.serve(20)
        hand.set_weight('outer\x1fa', 3)
        assert 59 <= contest.serve(80).count('a') <= 61

    @pytest.mark.parametrize('junk', [
        '', 'heavy', '{', '[3]', '{"weight": "heavy"}', '{"weight": 0}', '{"weight": -1}', '{"weight": 1e999}'])
    def test_what_is_no_weight_counts_as_1(self, hand, junk):
        backlog(hand, {'a': 1, 'b': 1}, turns=40)
        hand.redis.hset(keys.settings(hand.ns), 'set:tenant:a', junk)
        turns = hand.serve(40)
        assert turns.count('a') == 20
        assert hand.state()['waiting'] == sum(hand.store.waiting(hand.queue).values())


class TestSubQueues:
    def test_egress_weight_acts_on_waiting_tasks(self, hand):
        contest = Contest(hand, 'sub-queues', 'wrr', {'a': 1, 'b': 1})
        contest.put('a', 300)
        contest.put('b', 300)
        contest.serve(20)
        assert hand.store.set('q', 'sub:a', {'egress': 3})
        assert 59 <= contest.serve(80).count('a') <= 61
        assert hand.store.set('q', 'sub:a', {'egress': FORGET})
        assert 39 <= contest.serve(80).count('a') <= 41

    def test_the_least_weight_makes_the_rounds(self, hand):
        """From 1:1:1 to 1:1:0.25: the others have 4 turns to its one."""
        contest = Contest(hand, 'sub-queues', 'wrr', {'a': 1, 'b': 1, 'c': 1})
        for who in 'abc':
            contest.put(who, 200)
        contest.serve(30)
        hand.store.set('q', 'sub:c', {'egress': 0.25})
        assert Counter(contest.serve(90)) == {'a': pytest.approx(40, abs=2), 'b': pytest.approx(40, abs=2),
                                              'c': pytest.approx(10, abs=2)}

    def test_ingress_weight_acts_on_tasks_that_come(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 1000, 50), SubQueue('y', 1000, 50)]))
        hand.put('a', percent=60)
        hand.store.set('q', 'sub:x', {'ingress': 200})
        hand.put('a', percent=60)
        assert hand.store.waiting('q') == {'y:a': 1, 'x:a': 1}

    def test_an_unknown_one_is_not_made(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 1000, 50), SubQueue('y', 1000, 50)]))
        assert not hand.store.set('q', 'sub:z', {'egress': 1})


class TestAlgorithm:
    @pytest.mark.parametrize('level', LEVELS)
    @pytest.mark.parametrize('before', ALGORITHMS)
    @pytest.mark.parametrize('after', ALGORITHMS)
    def test_another_one_acts_on_waiting_tasks(self, hand, level, before, after):
        contest = Contest(hand, level, before, {'a': 3, 'b': 1})
        for who in 'ab':
            contest.put(who, 100)
        contest.serve(20)

        hand.store.set('q', 'queue', {'algorithm': after})

        contest.serve(2)
        turns = contest.serve(40)
        expected = {'pq': 40, 'rr': 20, 'wrr': 30, 'dwrr': 30}[after]
        assert turns.count('a') == pytest.approx(expected, abs=1)
        assert len(contest.serve(200)) == 200 - 62
        assert hand.state().get('waiting', 0) == 0

    def test_of_a_sub_queues_tenants(self, hand):
        hand.configure(QoS(queues=[SubQueue('x', 1000, 1), SubQueue('y', 1000, 1)], tenants={'a': Tenant(3)}))
        fill(hand, [('a', 100), ('b', 100)], 'x')
        hand.hire()
        assert hand.serve(40).count('a') == pytest.approx(30, abs=1)
        hand.store.set('q', 'sub:x', {'algorithm': 'rr'})
        hand.serve(2)
        assert hand.serve(40).count('a') == pytest.approx(20, abs=1)

    def test_tasks_in_flight_when_it_changes_are_accounted_for(self, hand):
        hand.configure(QoS('dwrr', tenants={'a': Tenant(max_in_flight=2)}))
        fill(hand, [('a', 20), ('b', 20)])
        hand.hire(slots=4)
        held = hand.read()
        for algorithm in 'wrr', 'dwrr', 'pq', 'dwrr':
            hand.store.set('q', 'queue', {'algorithm': algorithm})
            hand.finish(*held, seconds=1)
            held = hand.read()
            assert len(held) == 4
            assert sum(delivery.fields[b'tenant'] == b'a' for delivery in held) <= 2
        while held:
            hand.finish(*held, seconds=1)
            held = hand.read()
        assert hand.state().get('waiting', 0) == 0
        assert not hand.redis.exists(keys.in_flight(hand.ns))


class TestDefaultTenant:
    @pytest.mark.parametrize('options, lifted', [
        ({'paused': True}, {'paused': False}), ({'paused': True}, {'paused': FORGET}),
        ({'max_in_flight': 1}, {'max_in_flight': None}), ({'rate': 1 / 3600}, {'rate': None})],
        ids=['paused', 'paused, forgotten', 'max_in_flight', 'rate'])
    def test_its_limits_hold_for_many_and_are_lifted_for_all(self, hand, options, lifted):
        hand.configure(QoS(default_tenant=Tenant(weight=2)))
        fill(hand, [(f'tenant {number}', 3) for number in range(500)])
        hand.store.set('q', 'default', options)
        hand.hire(slots=700)
        held = hand.read()
        assert len(held) == (0 if 'paused' in options else 500)
        assert hand.store.sweep('q', 600, 'sweeper').moved == 0

        hand.store.set('q', 'default', lifted)

        hand.hire(slots=2000)
        for _ in range(10):
            hand.sweep()
        assert len(held) + len(hand.read(at_most=2000)) == 1500
        assert not hand.redis.exists(keys.parked(hand.ns))

    def test_one_that_is_named_takes_nothing_from_it(self, hand):
        hand.configure(QoS(default_tenant=Tenant(paused=True), tenants={'named': Tenant()}))
        hand.hire(slots=5)
        hand.put('named')
        hand.put('other')
        hand.put('named\x1finner')
        assert len(hand.in_egress()) == 2

    def test_one_that_is_set_keeps_the_rest_of_it(self, hand):
        hand.configure(QoS(default_tenant=Tenant(weight=3, max_in_flight=2)))
        hand.set_tenant('a', weight=5)
        assert hand.store.settings('q', 'tenant:a') == {'weight': 5, 'max_in_flight': 2}
        hand.hire(slots=9)
        hand.put('a', times=5)
        assert len(hand.in_egress()) == 2

    def test_what_is_set_wins_over_the_config_and_that_over_the_default(self, hand):
        hand.configure(QoS(default_tenant=Tenant(weight=2), tenants={'named': Tenant(weight=3)}))
        assert (hand.weight('other'), hand.weight('named')) == (2, 3)
        hand.store.set('q', 'default', {'weight': 4})
        assert (hand.weight('other'), hand.weight('named')) == (4, 3)
        hand.set_weight('named', 5)
        assert hand.weight('named') == 5
        hand.configure(QoS(default_tenant=Tenant(weight=6), tenants={'named': Tenant(weight=7)}))
        assert (hand.weight('other'), hand.weight('named')) == (4, 5)
        hand.store.set('q', 'default', {'weight': FORGET})
        hand.set_weight('named', None)
        assert (hand.weight('other'), hand.weight('named')) == (6, 7)


class TestEgress:
    def test_capacity(self, hand):
        hand.configure(QoS())
        fill(hand, [('a', 30)])
        hand.hire(slots=8)
        assert len(hand.in_egress()) == 8
        hand.store.set('q', 'queue', {'capacity': 3})
        held = hand.read()
        hand.finish(*held[:4])
        assert len(hand.in_egress()) == 4
        hand.finish(*held[4:])
        assert len(hand.in_egress()) == 3
        hand.store.set('q', 'queue', {'capacity': None})
        assert len(hand.in_egress()) == 8

    @pytest.mark.parametrize('before, after', [(1, 4), (4, 1), (2, 3)])
    def test_streams(self, hand, before, after):
        hand.configure(QoS(egress={'streams': before}))
        fill(hand, [('a', 60)])
        hand.hire(slots=8)
        held = hand.read()
        hand.configure(QoS(egress={'streams': after}), force=True)
        seen = []
        while held:
            seen += [number_of(delivery.fields) for delivery in held]
            hand.finish(*held)
            hand.hire(slots=8)     # tells the worker how many streams there are
            held = hand.read()
            assert len(held) == min(8, 60 - len(seen))
        assert sorted(seen) == list(range(1, 61))


class TestStructure:
    BEFORE = QoS('wrr', [SubQueue('x', 10, 1), SubQueue('y', 10, 1)])

    @pytest.mark.parametrize('after, difference', [
        (QoS('dwrr', BEFORE.queues), "algorithm: 'dwrr' contradicts 'wrr'"),
        (QoS('wrr'), 'queues: '),
        (QoS('wrr', BEFORE.queues[::-1]), 'queues: '),
        (QoS('wrr', [SubQueue('x', 10, 1, algorithm='rr'), BEFORE.queues[1]]), 'queues: '),
        (QoS('wrr', BEFORE.queues, egress={'streams': 2}), 'streams: 2 contradicts 1')])
    @pytest.mark.parametrize('use', ['a worker', 'a waiting task', 'nothing'])
    def test_contradictions_are_refused_while_the_queue_is_in_use(self, hand, after, difference, use):
        hand.configure(self.BEFORE)
        if use == 'a worker':
            hand.hire()
        elif use == 'a waiting task':
            hand.put('a')
        if use == 'nothing':
            hand.configure(after)
            return
        settings = hand.redis.hgetall(keys.settings(hand.ns))
        with pytest.raises(ConfigError, match=difference) as caught:
            hand.configure(after)
        assert "queue 'q'" in str(caught.value)
        assert hand.redis.hgetall(keys.settings(hand.ns)) == settings
        hand.configure(after, force=True)
        assert hand.store.settings('q', 'queue')['algorithm'] == after.algorithm

    def test_what_is_no_structure_may_differ(self, hand):
        hand.configure(self.BEFORE)
        hand.hire()
        hand.configure(QoS('wrr', [SubQueue('x', 20, 5, max_in_flight=3), SubQueue('y', 30, 1, rate='3/s')],
                           tenants={'a': Tenant(3)}, egress={'capacity': 3, 'workers': 2}))
        assert hand.store.settings('q', 'sub:x')['egress'] == 5

    @pytest.mark.parametrize('before, after', [
        (QoS(), BEFORE), (BEFORE, QoS()),
        (BEFORE, QoS('rr', [SubQueue('y', 10, 1), SubQueue('z', 10, 1), SubQueue('x', 10, 1)])),
        (BEFORE, QoS('pq', [SubQueue('y', 10, 1), SubQueue('z', 10, 1)]))])
    def test_forced_it_loses_no_task(self, hand, before, after):
        hand.configure(before)
        for name in ('x', 'y') if before.queues else ('',):
            for tenant in 'a', 'b', 'c\x1f1', 'c\x1f2':
                hand.put(tenant, times=2, sub_queue=name)
        published = next(hand.numbers) - 1
        hand.hire(slots=3)
        held = hand.read()

        hand.configure(after, force=True)

        seen = []
        while held:
            seen += [number_of(delivery.fields) for delivery in held]
            hand.finish(*held)
            held = hand.read()
        assert sorted(seen) == list(range(1, published + 1))
        hand.store.release('q', 'w')
        assert hand.all_keys() == {'settings'}


@pytest.mark.parametrize('persistence', [['--appendonly', 'yes', '--appendfsync', 'always'], ['--save', '3600 1']],
                         ids=['aof', 'rdb'])
def test_everything_survives_a_restart_of_the_server(persistence, server):
    """The server of the tests keeps nothing; this one does."""
    with EmbeddedRedis(server.binary, *persistence) as redis:
        hand = Hand(Store(redis.client()))
        hand.configure(QoS('dwrr', tenants={'a': Tenant(3), 'slow': Tenant(rate='1/h')}))
        hand.set_weight('b', 2)
        hand.set_tenant('held', paused=True)
        fill(hand, [(tenant, 20) for tenant in ('a', 'b', 'held', 'slow')])
        hand.hire(slots=2)
        hand.finish(*hand.read(), seconds=2)
        before = contents(hand.redis)
        if '--save' in persistence:
            hand.redis.save()
        redis.kill()
        redis.start()
        hand = Hand(Store(redis.client()))
        assert contents(hand.redis) == before
        assert (hand.weight('a'), hand.weight('b')) == (3, 2)
        assert hand.store.settings('q', 'tenant:held')['paused'] is True
        hand.configure(QoS('dwrr', tenants={'a': Tenant(3), 'slow': Tenant(rate='1/h')}))
        assert len(hand.in_egress()) == 2


def contents(redis) -> dict[bytes, object]:
    """Everything there is, by key."""
    read = {b'hash': redis.hgetall, b'stream': redis.xrange, b'list': lambda key: redis.lrange(key, 0, -1),
            b'zset': lambda key: redis.zrange(key, 0, -1, withscores=True)}
    return {key: read[redis.type(key)](key) for key in redis.keys()}
