"""Keys of a wrong type, junk in every key: each act has a clear end, nothing is lost, and all is well afterwards."""
from __future__ import annotations

import json
from contextlib import nullcontext
from io import StringIO

import msgpack
import pytest
from redis.exceptions import ResponseError

from celery_qos import keys
from celery_qos.bell import Bell
from celery_qos.config import QoS, Tenant
from celery_qos.dead_letters import DeadLetters
from celery_qos.delayed import DelayedTasks
from tests.lua.hand import Hand

#: More than a script can pass on.
MANY = {f'f{number}': 'x' for number in range(5000)}
ACCOUNTS = ['leases', 'slots', 'state', 'waiting', 'parked', 'lendable', 'in_flight', 'tokens', 'averages', 'delayed',
            'delayed_tasks', 'discarded', 'dead', 'sweepers', 'bell', 'settings', 'egress', 'ready', 'finish', 'owing']


def key_of(hand: Hand, name: str) -> str:
    if name == 'published':
        return keys.published(hand.ns, 0)
    if name == 'running':
        return keys.running(hand.ns, 'w')
    if name == 'tenant_stream':
        return keys.tenant_stream(hand.ns, 'a', 5)
    if name == 'inner ready':
        return keys.ready(hand.ns, ':b')
    return getattr(keys, name)(hand.ns)


def drain(hand: Hand) -> list[int]:
    """Serve whatever there is until nothing comes any more; the numbers in order."""
    served = []
    hand.hire(slots=3)
    for _ in range(100):
        hand.sweep()
        deliveries = hand.read()
        if not deliveries and not hand.redis.exists(keys.waiting(hand.ns), keys.delayed(hand.ns)):
            break
        served += [int(delivery.fields[b'number']) for delivery in deliveries if b'number' in delivery.fields]
        hand.finish(*deliveries)
    return served


def numbers_in(hand: Hand) -> list[int]:
    """All tasks wherever they are."""
    found = []
    for key in hand.redis.scan_iter(f'{hand.ns}*', _type='stream'):
        found += [int(fields[b'number']) for _, fields in hand.redis.xrange(key) if b'number' in fields]
    for packed in hand.redis.hvals(keys.delayed_tasks(hand.ns)):
        found.append(int(dict(zip(*[iter(msgpack.unpackb(packed)['fields'])] * 2))['number']))
    return sorted(found)


ACTS = {
    'publish': lambda hand: hand.put('a', message_id='m', remember_seconds=60),
    'publish inside': lambda hand: hand.put('b\x1fx'),
    'publish delayed': lambda hand: hand.put('a', due_ms=2 ** 42, task_id='later'),
    'publish expired': lambda hand: hand.store.enqueue(hand.queue, 'a', 5, {'expires': '1', 'number': '99'}),
    'lease': lambda hand: hand.hire(),
    'read': lambda hand: hand.read(),
    'sweep': lambda hand: hand.sweep(),
    'size': lambda hand: hand.store.size(hand.queue),
    'delayed': lambda hand: hand.store.delayed(hand.queue),
    'cancel': lambda hand: hand.store.cancel(hand.queue, ['late 2']),
    'dead letters': lambda hand: hand.store.dead_letters(hand.queue),
    'take discarded': lambda hand: hand.store.take_discarded(hand.queue, 9),
    'settings': lambda hand: hand.store.settings(hand.queue, 'tenant:a'),
    'set': lambda hand: hand.set_tenant('a', weight=2),
    'waiting': lambda hand: hand.store.waiting(hand.queue),
    'counters': lambda hand: hand.store.counters(hand.queue),
    'bell': lambda hand: Bell(hand.store).wait([hand.queue], 0.01),
}


@pytest.mark.parametrize('name', [*ACCOUNTS, 'published', 'running', 'tenant_stream', 'inner ready', 'transient'])
def test_a_key_of_another_type(hand, name):
    """An error that says so, or none, and nothing lost: what a publisher was refused is not there."""
    hand.configure(QoS('dwrr', max_deliveries=1, default_tenant=Tenant(max_in_flight=50, rate=10000, burst=1)))
    hand.hire(slots=3)
    hand.put('a', times=3)
    hand.put('b\x1fy', times=2)
    hand.put('a', due_ms=1, task_id='late')
    hand.put('a', due_ms=2 ** 41, task_id='late 2')
    held = hand.read()
    assert len(held) == 3
    before = numbers_in(hand)
    key = key_of(hand, name)
    kept = hand.redis.exists(key) and hand.redis.dump(key)
    hand.redis.delete(key)
    hand.redis.set(key, 'by hand')

    accepted, cancelled = [], False
    for act, do in ACTS.items():
        try:
            done = do(hand)
        except ResponseError as exc:
            assert 'WRONGTYPE' in str(exc), act
        else:
            accepted += [done] if act in ('publish', 'publish inside', 'publish delayed') else []
            cancelled = cancelled or act == 'cancel' and bool(done)
    for act in hand.settle, hand.requeue, lambda each: hand.store.bury(hand.queue, [each.entry_id], 'x'):
        try:
            act(held.pop())
        except ResponseError as exc:
            assert 'WRONGTYPE' in str(exc)

    hand.redis.delete(key)
    if kept:
        hand.redis.restore(key, 0, kept)
    hand.configure(QoS(), force=True)
    found = numbers_in(hand)
    assert len(set(found)) == len([number for number in found if number != 99]) + (99 in found), found
    missing = set(before) | set(accepted)
    missing -= set(found) | ({7} if cancelled else set())
    # One was settled; the key holds again what it held.
    assert missing <= {3}, (missing, accepted)
    hand.store.release(hand.queue, 'w')
    drain(hand)
    assert not hand.redis.exists(keys.waiting(hand.ns))
    number = hand.put('a')
    assert number in drain(hand)


class TestDeadLettersAreNoStream:
    """What cannot be put there stays where it is."""

    @pytest.fixture(autouse=True)
    def broken(self, hand):
        hand.configure(QoS(max_deliveries=1))
        hand.hire()
        hand.put('a')
        self.task, = hand.read()
        hand.redis.set(keys.dead(hand.ns), 'by hand')
        self.hand = hand

    def ends_well(self) -> None:
        self.hand.redis.delete(keys.dead(self.hand.ns))
        assert self.hand.requeue(self.task) == 0
        assert self.hand.store.count_dead_letters(self.hand.queue) == 1

    def test_bury(self):
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            self.hand.store.bury(self.hand.queue, [self.task.entry_id], 'x')
        self.ends_well()

    def test_in_vain_too_often(self):
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            self.hand.requeue(self.task)
        self.ends_well()

    def test_a_worker_that_died(self):
        self.hand.end_lease()
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            self.hand.sweep()
        self.ends_well()


@pytest.mark.parametrize('field', [
    'max_dead_letters', 'max_deliveries', 'workers', 'idle_threshold', 'idle_timeout', 'streams', 'shards', 'capacity',
    'algorithm', 'top', 'former', 'ingress', 'unit', 'measured', 'queue', 'set:queue', 'default', 'set:default',
    'tenant:a', 'set:tenant:a', 'last:0', 'config', 'structure', 'count:reject:', 'junk', b'\xff'])
def test_junk_in_the_settings(hand, field):
    for value in ('junk', '', '-1', '0', '1.5', 'nan', 'inf', '1e300', '[]', '{"weight": {}}', '{"queues": 5}',
                  b'\xff\x00'):
        hand.redis.flushdb()
        hand.configure(QoS())
        hand.redis.hset(keys.settings(hand.ns), field, value)
        hand.hire(slots=5)
        last = hand.put('a', times=8)
        late = hand.put('a', due_ms=1, task_id='x')
        if not hand.redis.exists(keys.egress(hand.ns)):
            assert field == 'shards'
        first, second, *others = hand.read() or hand.store.take([hand.queue], 'w', 5) or [None, None]
        if first is None:
            assert (field, value) == ('capacity', '0') or hand.store.size(hand.queue) == 9, value
        else:
            assert hand.store.bury(hand.queue, [first.entry_id], 'x') == 1
            hand.requeue(second)
            hand.settle(*others)
        hand.sweep()
        for of in 'queue', 'default', 'tenant:a':
            assert isinstance(hand.store.settings(hand.queue, of), dict)
        assert isinstance(hand.store.counters(hand.queue), dict)
        assert hand.store.sub_queues(hand.queue) == []
        hand.set_tenant('a', weight=2)
        hand.configure(QoS(max_deliveries=3), force=True)
        assert {last, late} <= {*drain(hand)} or field == 'max_deliveries', value
        hand.store.release(hand.queue, 'w')
        left = {name.partition(':')[0] for name in hand.all_keys()}
        assert left <= {'settings', 'dead', 'sweepers'}, (value, left)


@pytest.mark.parametrize('name', ['slots', 'leases', 'waiting', 'state', 'in_flight', 'averages', 'tokens', 'sweepers',
                                  'ready', 'parked', 'lendable', 'finish'])
def test_junk_in_the_accounts(hand, name):
    for field in ('w', ':a', 'sub', '', 'tenant:a', 'slots', 'delayed', 'waiting', 'suspects:w', '\x1f', b'\xff\x00',
                  'x' * 9999):
        hand.redis.flushdb()
        hand.configure(QoS(default_tenant=Tenant(max_in_flight=50, rate=10000, burst=1)))
        hand.hire(slots=3)
        first = hand.put('a', times=4) - 3
        hand.put('a', due_ms=2, task_id='late')
        key = getattr(keys, name)(hand.ns)
        if name in ('leases', 'sweepers', 'ready', 'parked', 'lendable', 'finish'):
            hand.redis.zadd(key, {field: 5})
        else:
            hand.redis.hset(key, field, 'junk')
        hand.put('a', times=2)
        hand.put('a', due_ms=1, task_id='late')
        assert isinstance(hand.store.waiting(hand.queue), dict)
        assert hand.store.size(hand.queue) >= 0
        assert sorted(drain(hand)) == list(range(first, first + 8)), field
        hand.store.release(hand.queue, 'w')


class TestForeignEntries:
    def test_in_egress_with_more_fields_than_a_script_can_pass_on(self, hand):
        hand.hire(slots=3)
        entry_id = hand.redis.xadd(keys.egress(hand.ns), MANY)
        hand.put('a')
        big, good = hand.read()
        assert hand.requeue(big, good) == 1
        (letter_id, letter), = hand.store.dead_letters(hand.queue)
        assert letter[b'reason'] == b'malformed: 5001 fields' and letter[b'f0'] == b'x'
        assert hand.in_egress() == [1] and entry_id

    def test_in_egress_of_a_worker_that_died(self, hand):
        hand.hire(slots=3)
        hand.redis.xadd(keys.egress(hand.ns), MANY)
        hand.put('a')
        hand.read()
        hand.end_lease()
        recovery, = hand.sweep()
        assert (recovery.tasks, recovery.died, recovery.done) == (1, 1, True)

    def test_buried(self, hand):
        hand.hire(slots=3)
        hand.redis.xadd(keys.egress(hand.ns), MANY)
        big, = hand.read()
        assert hand.store.bury(hand.queue, [big.entry_id], 'malformed: x') == 1
        assert hand.in_egress() == []
        (letter_id, _), = hand.store.dead_letters(hand.queue)
        assert hand.store.exhume(hand.queue, [letter_id], again=True) == 1

    def test_in_a_tenants_stream_with_more_fields_than_a_script_can_pass_on(self, hand):
        hand.put('a')
        stream = keys.tenant_stream(hand.ns, 'a', 5)
        hand.redis.xadd(stream, MANY)
        hand.put('a')
        hand.put('b')
        hand.hire()
        assert sorted(hand.serve(9)) == ['a', 'a', 'b']
        assert [letter[b'reason'] for _, letter in hand.store.dead_letters(hand.queue)] == [b'malformed: 5000 fields']
        assert hand.store.waiting(hand.queue) == {}

    @pytest.mark.parametrize('fields', [{'x': 'y'}, {b'\xff': b'\xfe'}, {'expires': 'junk'}, {'expires': 'nan'},
                                        {'expires': '1'}, {'tracked': 'x', 'tenant': b'\xff', 'sub': ':'}])
    def test_in_a_tenants_stream_without_an_account(self, hand, fields):
        """It is served with the next task of that tenant that waits."""
        hand.redis.xadd(keys.tenant_stream(hand.ns, 'a', 5), fields)
        hand.hire()
        assert hand.read() == []
        hand.put('a', times=3)
        seen = []
        while read := hand.read(at_most=1):
            seen.append(read[0].fields.get(b'number'))
            hand.settle(*read)
        kept = 0 if fields.get('expires') == '1' else 1
        assert len(seen) == 3 + kept and set(seen) >= {b'1', b'2', b'3'}
        assert len(hand.store.take_discarded(hand.queue, 9)) == 1 - kept
        assert hand.store.waiting(hand.queue) == {}

    def test_of_a_tenant_that_gets_others_inside(self, hand):
        hand.redis.xadd(keys.tenant_stream(hand.ns, 'a', 5), {'number': '77', 'tenant': 'a'})
        hand.put('a\x1fx', times=2)
        assert sorted(drain(hand)) == [1, 2, 77]

    @pytest.mark.parametrize('priority', ['99', '-1', 'x', '1.5', ''])
    def test_a_dead_letter_of_an_odd_priority(self, hand, priority):
        letter = hand.redis.xadd(keys.dead(hand.ns), {'number': '1', 'tenant': 'a', 'priority': priority}).decode()
        assert hand.store.exhume(hand.queue, [letter], again=True) == 1
        assert drain(hand) == [1]

    def test_a_dead_letter_that_cannot_join_stays(self, hand):
        stream = keys.tenant_stream(hand.ns, 'a', 0)
        hand.redis.set(stream, 'by hand')
        letter = hand.redis.xadd(keys.dead(hand.ns), {'number': '1', 'tenant': 'a'}).decode()
        with pytest.raises(ResponseError, match='WRONGTYPE'):
            hand.store.exhume(hand.queue, [letter], again=True)
        assert hand.store.count_dead_letters(hand.queue) == 1
        hand.redis.delete(stream)
        assert hand.store.exhume(hand.queue, [letter], again=True) == 1
        assert drain(hand) == [1]

    def test_dead_letters_are_read_whatever_they_are(self, hand):
        for fields in ({b'\xff': b'\xff'}, {'deliveries': '9' * 9999}, {'enqueued': f'{2 ** 63}-0'},
                       {'tenant': b'\xff'},
                       {'headers': '{"x": {"__type__": "datetime", "__value__": "2030-01-01"}}', 'body': b'\xff'},
                       {'headers': '{"x": {"__type__": "decimal", "__value__": "junk"}}'}, {'headers': '[' * 99999},
                       MANY):
            hand.redis.xadd(keys.dead(hand.ns), fields)
        hand.redis.xadd(keys.dead(hand.ns), {'x': 'y'}, id=f'{2 ** 64 - 1}-0')
        letters, file = DeadLetters(lambda: nullcontext(hand.store), hand.queue), StringIO()
        assert letters.export(file) == 9
        assert len([json.loads(line) for line in file.getvalue().splitlines()]) == 9


class TestJunkAmongTheDelayed:
    GOOD = {'due': 5, 'tenant': 'a', 'priority': 5, 'named': '', 'fields': ['number', '7', 'tenant', 'a'],
            'place': '000000000000777:junk'}

    @pytest.mark.parametrize('packed', [
        b'', b'junk', b'\xc1', b'\xdd\xff\xff\xff\xff', b'\x91' * 9999, *map(msgpack.packb, [
            5, 'x', None, [], {}, [5], [[]], [{}], {'x': 1}, [None], {**GOOD, 'place': 5}, {**GOOD, 'tenant': None},
            {**GOOD, 'priority': 99}, {**GOOD, 'priority': 'x'}, {**GOOD, 'priority': 0.5},
            {**GOOD, 'named': 5},
            {**GOOD, 'fields': {}}, {**GOOD, 'fields': ['x']}, {**GOOD, 'fields': [[], {}]},
            {**GOOD, 'fields': 'x'}, {**GOOD, 'due': 'x'}, {**GOOD, 'due': 1e300}, {**GOOD, 'percent': []},
            {**GOOD, 'fields': ['x'] * 10000}])])
    @pytest.mark.parametrize('again', [False, True], ids=['', 'published under again'])
    def test_is_a_dead_letter(self, hand, packed, again):
        hand.redis.zadd(keys.delayed(hand.ns), {self.GOOD['place']: 5})
        hand.redis.hset(keys.delayed_tasks(hand.ns), '1:junk', packed)
        assert list(DelayedTasks(lambda: nullcontext(hand.store), hand.queue)) == []
        assert hand.store.delayed(hand.queue) == []
        assert hand.store.cancel(hand.queue, ['junk']) == []
        hand.put('a', due_ms=6, task_id='good')
        hand.redis.zadd(keys.delayed(hand.ns), {'000000000000009:good': 6})
        if again:
            hand.put('a', due_ms=2 ** 42, task_id='junk')
        assert 1 in drain_some(hand)
        letters = [letter for _, letter in hand.store.dead_letters(hand.queue)]
        assert [letter[b'reason'] for letter in letters] == [b'malformed: it is not what is kept of a delayed task']
        assert letters[0][b'body'] == packed
        assert hand.redis.hkeys(keys.delayed_tasks(hand.ns)) == ([b'1:junk'] if again else [])

    def test_beside_a_good_one(self, hand):
        hand.redis.zadd(keys.delayed(hand.ns), {self.GOOD['place']: 5})
        hand.redis.hset(keys.delayed_tasks(hand.ns), mapping={
            '1:junk': 'junk', '2:junk': msgpack.packb(self.GOOD)})
        assert drain(hand) == [7]
        assert hand.store.count_dead_letters(hand.queue) == 1

    @pytest.mark.parametrize('place', ['', 'x', '000000000000001', '000000000000001:', b'\xff' * 20, 'x' * 9999])
    def test_a_place_of_nothing_goes(self, hand, place):
        hand.redis.zadd(keys.delayed(hand.ns), {place: 5})
        hand.put('a', due_ms=6, task_id='good')
        assert [task.due_ms for task in hand.store.delayed(hand.queue)] in ([], [6])
        assert drain(hand) == [1]
        hand.store.release(hand.queue, 'w')
        assert hand.all_keys() == set()

    def test_a_stream_of_another_type_stops_only_its_own(self, hand):
        hand.redis.set(keys.tenant_stream(hand.ns, 'a', 5), 'by hand')
        for tenant in 'a', 'b':
            hand.redis.zadd(keys.delayed(hand.ns), {f'000000000000001:{tenant}': 5})
            hand.redis.hset(keys.delayed_tasks(hand.ns), f'1:{tenant}', msgpack.packb(
                {**self.GOOD, 'tenant': tenant, 'place': f'000000000000001:{tenant}',
                 'fields': ['number', '7', 'tenant', tenant]}))
        assert drain(hand) == [7]
        assert [letter[b'tenant'] for _, letter in hand.store.dead_letters(hand.queue)] == [b'a']

    def test_with_a_name_that_is_no_text_they_are_listed(self, hand):
        for number in range(250):
            place = b'%015d:\xff' % number
            hand.redis.zadd(keys.delayed(hand.ns), {place: 2 ** 42 + number // 3})
            hand.redis.hset(keys.delayed_tasks(hand.ns), b'%d:\xff' % (number + 1), msgpack.packb(
                {**self.GOOD, 'place': place, 'due': 2 ** 42 + number // 3}, use_bin_type=False))
        seen, last = 0, ('', '')
        while page := hand.store.delayed(hand.queue, last):
            seen += len(page)
            last = page[-1].place, page[-1].due_ms
        assert seen == 250


def drain_some(hand: Hand) -> list[int]:
    hand.hire(slots=9)
    hand.sweep()
    hand.sweep()
    deliveries = hand.read()
    hand.finish(*deliveries)
    return [int(delivery.fields[b'number']) for delivery in deliveries]
