"""Tasks that wait for their time: no slot, no turn, until it has come."""
from __future__ import annotations

import pytest

from celery_qos import keys
from celery_qos.config import QoS, SubQueue, Tenant
from celery_qos.errors import ConfigError, QueueFull
from celery_qos.scripts import script

from .hand import commands_of


def now_ms(hand) -> int:
    seconds, microseconds = hand.redis.time()
    return seconds * 1000 + microseconds // 1000


def delay(hand, tenant: str = 'a', seconds: float = 600, task_id: str = '', **kwargs) -> int:
    return hand.put(tenant, task_id=task_id, due_ms=now_ms(hand) + int(seconds * 1000), **kwargs)


def make_due(hand) -> None:
    """As if the time of all had come."""
    hand.redis.zunionstore(keys.delayed(hand.ns), {keys.delayed(hand.ns): 1e-9})


def sweep_all(hand) -> None:
    while hand.store.sweep(hand.queue, 600, 'sweeper').moved:
        pass


def places(hand) -> list[str]:
    return [each.place.partition(':')[2] for each in hand.store.delayed(hand.queue)]


def test_takes_no_slot_before_it_is_due(hand):
    hand.hire(slots=5)
    delay(hand)
    hand.put('a')
    hand.sweep()
    assert hand.in_egress() == [2]
    assert hand.store.count_delayed(hand.queue) == 1
    assert hand.store.size(hand.queue) == 2


def test_joins_its_tenants_stream_when_it_is_due(hand):
    delay(hand, 'a', priority=3)
    hand.put('a', times=2, priority=3)
    make_due(hand)
    hand.sweep()
    assert hand.waiting('a', 3) == [2, 3, 1]
    hand.hire(slots=3)
    assert hand.in_egress() == [2, 3, 1]
    assert hand.store.count_delayed(hand.queue) == 0
    assert not hand.redis.exists(keys.delayed_tasks(hand.ns))


def test_takes_its_tenants_turn(hand):
    for _ in range(3):
        delay(hand, 'a')
    for _ in range(3):
        delay(hand, 'b')
    make_due(hand)
    hand.sweep()
    hand.hire()
    assert hand.serve(6) == ['a', 'b'] * 3


def test_what_is_due_already_is_not_delayed(hand):
    hand.hire()
    assert hand.store.enqueue('q', 'a', 0, {'number': '1'}, task_id='x', due_ms=now_ms(hand)) == 'egress'


def test_those_of_one_time_keep_their_order(hand):
    due = now_ms(hand) + 10_000
    for number in range(150):
        hand.put('a', task_id=f'{-number}', due_ms=due)
    make_due(hand)
    sweep_all(hand)
    assert hand.waiting('a') == list(range(1, 151))


def test_a_call_moves_some_and_tells_that_there_are_more(hand):
    for _ in range(20):
        delay(hand)
    make_due(hand)
    sweep = hand.store.sweep(hand.queue, 600, 'sweeper')
    assert sweep.moved == 16 and sweep.due_ms == 0
    assert hand.store.sweep(hand.queue, 600, 'sweeper').moved == 4


def test_a_call_moves_few_that_are_large(hand):
    for _ in range(5):
        hand.store.enqueue(hand.queue, 'a', 5, {'number': '1', 'body': 'x' * 600_000}, task_id='x', due_ms=2 ** 42)
    make_due(hand)
    assert [hand.store.sweep(hand.queue, 600, 'sweeper').moved for _ in range(4)] == [2, 2, 1, 0]


def test_many_messages_of_one_task(hand):
    """Each is looked for once, not again for each of the others."""
    for _ in range(200):
        delay(hand, task_id='x')
    assert commands_of(hand.redis, lambda: delay(hand, task_id='x'))['hexists'] < 20
    make_due(hand)
    assert commands_of(hand.redis, hand.sweep)['hget'] < 310
    sweep_all(hand)
    assert hand.waiting('a') == list(range(1, 202))
    assert not hand.redis.exists(keys.delayed_tasks(hand.ns))


def test_junk_under_the_id_of_a_task_brings_none_back(hand):
    hand.redis.hset(keys.delayed_tasks(hand.ns), '1:x', 'junk')
    delay(hand, task_id='x')
    make_due(hand)
    hand.sweep()
    assert hand.waiting('a') == [1] and hand.store.count_dead_letters(hand.queue) == 1
    assert not hand.redis.exists(keys.delayed_tasks(hand.ns))


def test_the_sweep_tells_when_the_next_is_due(hand):
    delay(hand, seconds=50)
    delay(hand, seconds=20)
    assert 19_000 < hand.store.sweep(hand.queue, 600, 'sweeper').due_ms <= 20_000


def test_the_bell_rings_for_the_earliest_only(hand):
    bell = keys.bell(hand.ns)
    delay(hand, seconds=50)
    assert hand.redis.delete(bell)
    delay(hand, seconds=60)
    assert not hand.redis.exists(bell)
    delay(hand, seconds=40)
    assert hand.redis.exists(bell)


def test_several_messages_of_one_task(hand):
    """A task that replaces itself keeps its id."""
    delay(hand, task_id='x')
    delay(hand, task_id='x')
    delay(hand, 'b', task_id='y')
    assert places(hand) == ['x', 'x', 'y']
    make_due(hand)
    hand.sweep()
    assert hand.waiting('a') == [1, 2] and hand.waiting('b') == [3]


class TestCancel:
    def test_all_messages_of_a_task(self, hand):
        for task_id in 'x', 'x', 'y':
            delay(hand, task_id=task_id)
        assert hand.store.cancel(hand.queue, ['x', 'unknown']) == ['x']
        assert places(hand) == ['y']
        make_due(hand)
        hand.sweep()
        assert hand.waiting('a') == [3]

    def test_celery_is_told(self, hand):
        hand.hire()
        delay(hand, task_id='x')
        hand.redis.delete(keys.bell(hand.ns))
        hand.store.cancel(hand.queue, ['x'])
        assert hand.redis.exists(keys.bell(hand.ns))
        assert hand.store.sweep(hand.queue, 600, 'sweeper').discarded == 1
        told, = hand.store.take_discarded(hand.queue, 10)
        assert told.fields[b'reason'] == b'revoked' and told.fields[b'number'] == b'1'
        assert hand.store.take_discarded(hand.queue, 10) == []
        assert not hand.redis.exists(keys.discarded(hand.ns))


class TestList:
    def test_what_there_is_to_know(self, hand):
        due = now_ms(hand) + 5000
        hand.put('a', task_id='x', due_ms=due)
        each, = hand.store.delayed(hand.queue)
        assert (each.due_ms, each.tenant, each.sub_queue) == (due, 'a', '')
        assert each.fields[b'number'] == b'1'

    def test_page_by_page(self, hand):
        due = now_ms(hand) + 5000
        for number in range(25):
            hand.put('a', task_id=f'{number}', due_ms=due + number // 10)
        found, last = [], ('', '')
        while page := hand.store.delayed(hand.queue, last, 7):
            found += [each.place for each in page]
            last = page[-1].place, page[-1].due_ms
            # The last one may be gone when the next page is asked for.
            hand.redis.zrem(keys.delayed(hand.ns), page[-1].place)
        assert len(found) == len(set(found)) == 25

    def test_many_of_one_time_are_not_gone_through_for_a_page(self, hand):
        due = 2 ** 42
        hand.redis.zadd(keys.delayed(hand.ns), {f'{number:015d}:x': due for number in range(0, 4000, 2)})
        last = f'{1001:015d}:gone', due
        commands = commands_of(hand.redis, lambda: hand.store.delayed(hand.queue, last, 1))
        assert commands['zrangebyscore'] == 0 and commands['zrange'] < 15


@pytest.mark.once
def test_a_million_of_them_slow_nobody(hand):
    """Neither the tasks beside them nor the sweep: as many commands, and about as much of the server's time."""
    def work() -> None:
        for _ in range(200):
            hand.put('a')
            hand.settle(*hand.read())
            hand.sweep()

    def usec() -> int:
        return hand.redis.info('commandstats')['cmdstat_evalsha']['usec']

    hand.hire()
    hand.put('a', task_id='last', due_ms=2 ** 43)
    work()
    few, few_usec = commands_of(hand.redis, work), usec()
    fill = '''
        for i = ARGV[1] + 1, ARGV[1] + 100000 do
          local place = string.format('%015d:%d', i, i)
          redis.call('ZADD', KEYS[1], 2 ^ 42 + i, place)
          redis.call('HSET', KEYS[2], '1:' .. i, cmsgpack.pack({place = place, fields = {}}))
        end'''
    for start in range(0, 1_000_000, 100_000):
        hand.redis.eval(fill, 2, keys.delayed(hand.ns), keys.delayed_tasks(hand.ns), start)
    many, many_usec = commands_of(hand.redis, work), usec()
    assert many == few
    assert many_usec < 2 * few_usec


def test_an_idle_queue_leaves_nothing(hand):
    hand.hire()
    delay(hand)
    hand.store.release(hand.queue, 'w')
    make_due(hand)
    hand.sweep()
    hand.hire()
    assert hand.serve(1) == ['a']
    hand.store.release(hand.queue, 'w')
    assert hand.all_keys() == set()


def test_purge_and_delete(hand):
    delay(hand, task_id='x')
    hand.put('a')
    assert hand.store.purge(hand.queue) == 2
    assert hand.all_keys() <= {'settings'}
    delay(hand, task_id='x')
    hand.store.delete(hand.queue)
    assert not hand.redis.keys()


def test_capacity_is_asked_for_when_it_is_published(hand):
    hand.configure(QoS(tenants={'a': Tenant(capacity=1)}))
    delay(hand)
    hand.put('a')
    with pytest.raises(QueueFull):
        delay(hand)
    delay(hand, exempt=True)
    make_due(hand)
    hand.sweep()
    assert hand.waiting('a') == [2, 1, 4]


class TestSubQueues:
    QOS = QoS(queues=[SubQueue('high', 10, 1), SubQueue('low', 10, 1)])

    def test_the_one_that_is_named(self, hand):
        hand.configure(self.QOS)
        delay(hand, sub_queue='high')
        with pytest.raises(ConfigError, match='unknown'):
            delay(hand, sub_queue='hihg')
        make_due(hand)
        hand.sweep()
        assert hand.store.waiting(hand.queue) == {'high:a': 1}

    def test_one_that_there_is_no_more(self, hand):
        hand.configure(self.QOS)
        delay(hand, sub_queue='high')
        hand.configure(QoS(queues=[SubQueue('fast', 10, 1), SubQueue('slow', 10, 1)]), force=True)
        make_due(hand)
        hand.sweep()
        assert hand.store.waiting(hand.queue) == {'slow:a': 1}


def test_tenants_inside_tenants(hand):
    delay(hand, 'acme\x1falice')
    delay(hand, 'acme')
    make_due(hand)
    hand.sweep()
    hand.hire()
    assert sorted(hand.serve(2)) == ['acme', 'acme\x1falice']
    hand.store.release(hand.queue, 'w')
    assert hand.all_keys() == set()


def test_a_place_without_its_task(hand):
    """Deleted by hand: nothing stops."""
    delay(hand)
    hand.redis.delete(keys.delayed_tasks(hand.ns))
    delay(hand)
    make_due(hand)
    hand.sweep()
    assert hand.waiting('a') == [2]


class TestExpired:
    def put(self, hand, number: int = 0, tenant: str = 'a', seconds: float = -1) -> str:
        fields = {'expires': str(now_ms(hand) + int(seconds * 1000)), 'number': str(number), 'tenant': tenant}
        return hand.store.enqueue(hand.queue, tenant, 5, fields)

    def expire(self, hand, tenant: str = 'a') -> None:
        """As if the time of those that wait were over."""
        stream = keys.tenant_stream(hand.ns, tenant, 5)
        entries = hand.redis.xrange(stream)
        for entry_id, fields in entries:
            hand.redis.xdel(stream, entry_id)
            hand.redis.xadd(stream, {**fields, b'expires': b'1'})

    def test_when_it_is_published(self, hand):
        hand.hire()
        assert self.put(hand) == 'expired'
        assert hand.in_egress() == []
        assert hand.store.take_discarded(hand.queue, 1)[0].fields[b'reason'] == b'expired'

    def test_costs_no_slot_and_no_turn(self, hand):
        for number in range(20):
            self.put(hand, number, seconds=600)
        self.expire(hand)
        hand.put('a', times=2)
        hand.put('b', times=2)
        hand.hire()
        assert hand.serve(4) == ['a', 'b', 'a', 'b']
        assert len(hand.store.take_discarded(hand.queue, 100)) == 20

    def test_any_number_of_them(self, hand):
        for number in range(1200):
            self.put(hand, number, seconds=600)
        self.expire(hand)
        hand.put('a')
        hand.hire(slots=3)
        for _ in range(12):
            hand.sweep()
        assert hand.in_egress() == [1]
        assert hand.store.size(hand.queue) == 1

    def test_a_tenant_of_which_all_have_expired(self, hand):
        self.put(hand, seconds=600)
        self.expire(hand)
        hand.hire()
        assert hand.in_egress() == []
        hand.store.take_discarded(hand.queue, 100)
        hand.store.release(hand.queue, 'w')
        assert hand.all_keys() == set()

    def test_one_that_lives_is_delivered(self, hand):
        hand.hire(slots=2)
        assert self.put(hand, 7, seconds=600) == 'egress'
        assert hand.in_egress() == [7]

    def test_the_bell_rings_once_a_script(self, hand):
        """The sweep goes on where a script has removed as many as one may."""
        for number in range(120):
            self.put(hand, number, seconds=600)
        self.expire(hand)
        hand.redis.config_resetstat()
        script('lease')(hand.redis, [hand.ns], 'w', 1, 600_000, '')
        assert hand.redis.info('commandstats')['cmdstat_rpush']['calls'] == 1
        assert len(hand.store.take_discarded(hand.queue, 1000)) < 40
        sweep_all(hand)
        assert hand.store.size(hand.queue) == 0

    def test_the_bell_rings_for_what_is_none_of_ours_too(self, hand):
        hand.put('a')
        hand.redis.xadd(keys.tenant_stream(hand.ns, 'a', 0), {f'{number}': '' for number in range(1001)})
        hand.hire()
        assert hand.store.count_dead_letters(hand.queue) == 1 and hand.redis.exists(keys.bell(hand.ns))
