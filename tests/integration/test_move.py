"""`celery_qos.control(app).move` and ``celery qos move``."""
from __future__ import annotations

import json
from math import inf

import pytest
from celery import Celery
from kombu import Queue

import celery_qos
from celery_qos import ConfigError, QoS, SubQueue, keys
from celery_qos.doctor.audit import Audit
from celery_qos.store import Store

from .ledger import Ledger
from .test_commands import run as run

pytestmark = pytest.mark.once

TREE = QoS(queues=[SubQueue('high', 100, 3), SubQueue('low', 100, 1)])
SUB_QUEUES = ('', 'high', 'low')


class Moving:
    """An app, and what waits in its queues."""

    def __init__(self, server, qos: QoS | None = None, queues: tuple[str, ...] = ('celery',), **conf) -> None:
        self.app = Celery('mover', broker=server.url('qos'), set_as_current=False)
        self.app.conf.update(task_queues=[Queue(name, routing_key=name) for name in queues], **conf)
        if qos:
            celery_qos.setup(self.app, qos)
        self.control = celery_qos.control(self.app)
        self.redis = server.client()
        self.store = Store(self.redis)

    def send(self, tenant, *names: str, **options) -> None:
        for name in names:
            self.app.send_task('job', tenant=tenant, task_id=name, **options)

    def names(self, tenant: str = '', queue: str = 'celery') -> list[str]:
        """Ids of what waits of a tenant, sub-queue after sub-queue, as it would be served."""
        return [json.loads(fields[b'headers'])['id'] for fields in self.tasks(tenant, queue)]

    def tasks(self, tenant: str, queue: str = 'celery') -> list[dict[bytes, bytes]]:
        return [fields for sub_queue in SUB_QUEUES for priority in range(10) for _, fields in self.redis.xrange(
            keys.tenant_stream(keys.namespace(queue), tenant, priority, sub_queue))]

    def is_right(self, queue: str = 'celery') -> bool:
        """All accounts are; everybody with tasks has a turn."""
        audit = Audit(self.store, queue)
        prefix = f'{keys.namespace(queue)}:tenant:'
        ids = {key.decode()[len(prefix) + 2:] for key in self.redis.scan_iter(f'{prefix}*')}
        totals = audit.totals(100)
        return all(each.noted == each.tasks and not each.lost for each in audit.tenants(sorted(ids))) \
            and totals.waiting.noted == totals.waiting.tasks and not totals.sums

    def serve(self, queue: str = 'celery', slots: int = 1) -> list[tuple[str, str]]:
        """Tenant and id of all that waits, as it is served."""
        self.store.lease(queue, 'w', slots, 60)
        found = []
        while read := self.store.take([queue], 'w', 1):
            found.append((read[0].fields[b'tenant'].decode(), json.loads(read[0].fields[b'headers'])['id']))
            self.store.settle(queue, [each.entry_id for each in read])
        return found


@pytest.fixture
def moving(server):
    return Moving(server)


class TestToAnotherTenant:
    def test_goes_to_the_end_of_it_in_the_old_order(self, moving):
        moving.send('b', 'b0')
        moving.send('a', *(f'a{number}' for number in range(30)))
        before = moving.redis.xrange(keys.tenant_stream(keys.namespace('celery'), 'a'))
        seen = []
        moved = moving.control.move('a', 'b', progress=lambda *done: seen.append(done))
        assert moved.count == 30 and seen == [(12, 30), (24, 30), (30, 30)]
        assert moving.names('b') == ['b0', *(f'a{number}' for number in range(30))] and not moving.names('a')
        last = moving.tasks('b')[-1]
        assert last[b'tenant'] == b'b' and json.loads(last[b'headers'])['tenant'] == 'b'
        assert last[b'due'] == before[-1][0].partition(b'-')[0], 'it waits since it was published'
        assert moving.is_right()
        assert moving.serve() == [('b', 'b0'), *(('b', f'a{number}') for number in range(30))]
        assert moving.store.size('celery') == 0

    def test_headers_inside_the_headers_follow(self, server):
        """As Sentry has them: a task's retries and children go by these."""
        moving = Moving(server, TREE)
        moving.send('a', 'x', sub_queue='low', headers={'headers': {'sentry-trace': 't'}})
        moving.control.move('a', ('b', 'c'), 'high')
        headers = json.loads(moving.tasks('b\x1fc')[0][b'headers'])
        assert headers['headers'] == {'sentry-trace': 't', 'tenant': ['b', 'c'], 'sub_queue': 'high'}

    def test_leaves_what_is_too_large_and_takes_what_is_large_in_steps(self, moving):
        moving.send('a', 'x')
        ns, stream = keys.namespace('celery'), keys.tenant_stream(keys.namespace('celery'), 'a')
        fields = moving.tasks('a')[0]
        for extra in [{f'f{number}': '' for number in range(4500)}, *[{'body': bytes(700_000)}] * 3]:
            moving.redis.xadd(stream, {**fields, **extra})
        moving.redis.hset(keys.waiting(ns), ':a', 5)
        moving.redis.hset(keys.state(ns), 'waiting', 5)
        seen = []
        assert moving.control.move('a', 'b', progress=lambda *done: seen.append(done)).count == 4
        assert seen == [(3, 5), (4, 5)] and moving.redis.xlen(stream) == 1 and moving.is_right()
        assert len(moving.serve()) == 4 and moving.store.count_dead_letters('celery') == 1

    def test_keeps_priorities_and_moves_the_most_urgent_first(self, moving):
        moving.send('a', 'late', priority=9)
        moving.send('a', 'soon', 'sooner', priority=0)
        assert moving.control.move('a', 'b', count=2).count == 2
        assert moving.names('b') == ['soon', 'sooner'] and moving.names('a') == ['late']
        moving.send('b', 'usual', priority=5)
        moving.control.move('a', 'b')
        assert moving.names('b') == ['soon', 'sooner', 'usual', 'late']
        assert moving.is_right()

    def test_single_tasks(self, moving):
        moving.send('a', *'uvwxyz')
        moved = moving.control.move('a', 'b', task_ids=['y', 'v', 'nothing'])
        assert (moved.count, moved.missing) == (2, ('nothing',))
        assert moving.names('a') == list('uwxz') and moving.names('b') == list('vy')
        assert moving.is_right()
        moving.send('a', *(f'a{number}' for number in range(20)))
        seen = []
        moving.control.move('a', 'b', task_ids=['a19'], progress=lambda *done: seen.append(done))
        assert seen == [(0, 24), (1, 24)], 'there is progress where none is found'

    def test_only_looks(self, moving):
        moving.send('a', *'xyz')
        moving.control.set_tenant('b', capacity=2)
        before = {key: moving.redis.dump(key) for key in moving.redis.keys()}
        moved = moving.control.move('a', 'b', dry_run=True)
        assert (moved.count, moved.full) == (2, True)
        assert moving.control.move('a', 'c', dry_run=True).count == 3
        assert {key: moving.redis.dump(key) for key in moving.redis.keys()} == before

    def test_no_more_than_there_is_room_for(self, moving):
        moving.control.set_tenant('b', capacity=3)
        moving.send('b', 'b0')
        moving.send('a', *'uvwxyz')
        moved = moving.control.move('a', 'b')
        assert (moved.count, moved.full) == (2, True) and moving.names('a') == list('wxyz')
        assert moving.control.move('a', 'b').count == 0
        assert moving.control.move('a', 'b', force=True).count == 4 and moving.is_right()

    def test_of_who_is_inside_another(self, moving):
        moving.send(('a', 'x'), 'x0', 'x1')
        moving.send('a', 'own')
        moving.send(('a', 'y'), 'y0')
        assert moving.control.move('a', 'b').count == 1
        assert moving.control.move(('a', 'x'), ('b', 'z')).count == 2
        assert moving.is_right()
        assert json.loads(moving.tasks('b\x1fz')[0][b'headers'])['tenant'] == ['b', 'z']
        assert sorted(moving.serve()) == [('a\x1fy', 'y0'), ('b', 'own'), ('b\x1fz', 'x0'), ('b\x1fz', 'x1')]
        assert moving.store.size('celery') == 0

    def test_into_oneself(self, moving):
        """Its stream gets another name on the way."""
        moving.send('a', *'xyz')
        assert moving.control.move('a', ('a', 'b'), count=2).count == 2
        assert moving.is_right() and moving.names('a\x1fb') == list('xy') and moving.names('a\x1f') == ['z']
        assert moving.control.move(('a', 'b'), 'a').count == 2
        assert moving.is_right()
        assert sorted(name for _, name in moving.serve()) == list('xyz')

    def test_of_who_is_paused_and_to_who_is_not(self, moving):
        moving.control.set_tenant('a', paused=True)
        moving.send('a', 'x', 'y')
        moving.store.lease('celery', 'w', 1, 60)
        moving.control.move('a', 'b', count=1)
        assert moving.redis.xlen(keys.egress(keys.namespace('celery'))) == 1
        moving.control.move('a', 'b')
        assert moving.is_right() and not moving.redis.exists(keys.parked(keys.namespace('celery')))
        assert [name for _, name in moving.serve()] == ['x', 'y']

    def test_who_was_emptied_and_comes_back_steals_no_turns(self, moving):
        moving.send('a', *(f'a{number}' for number in range(9)))
        moving.send('b', *(f'b{number}' for number in range(9)))
        moving.store.lease('celery', 'w', 1, 60)
        for _ in range(6):
            moving.store.settle('celery', [each.entry_id for each in moving.store.take(['celery'], 'w', 1)])
        moving.control.move('a', 'c')
        moving.send('a', *(f'a{number}' for number in range(9, 12)))
        turns = [tenant for tenant, _ in moving.serve()][1:7]
        assert {tenant: turns.count(tenant) for tenant in 'abc'} == {'a': 2, 'b': 2, 'c': 2}, turns

    @pytest.mark.parametrize('where, text', [
        ({}, 'nothing is said of where to'),
        ({'to_tenant': 'a'}, 'are there already'),
        ({'to_sub_queue': 'high'}, 'has no sub-queues'),
        ({'to_tenant': 'b', 'sub_queue': 'high'}, "'high' is unknown"),
        ({'to_queue': 'cellery'}, "queue: 'cellery' is unknown to this app and to Redis; did you mean 'celery'"),
    ])
    def test_nowhere(self, moving, where, text):
        moving.send('a', 'x')
        with pytest.raises(ConfigError, match=text):
            moving.control.move('a', **where)
        assert moving.names('a') == ['x'] and not moving.redis.keys('*cellery*')


class TestToASubQueue:
    def test_and_back(self, server):
        moving = Moving(server, TREE)
        moving.send('a', *'xyz', sub_queue='low')
        moving.send('a', 'h', sub_queue='high')
        moving.control.set_tenant('a', capacity=4)
        assert moving.control.move('a', to_sub_queue='high', sub_queue='low').count == 3
        assert moving.names('a') == list('hxyz') and moving.is_right()
        assert json.loads(moving.tasks('a')[-1][b'headers'])['sub_queue'] == 'high'
        assert moving.control.move('a', to_sub_queue='low', count=1).count == 1
        assert moving.names('a') == list('xyzh') and moving.is_right()
        with pytest.raises(ConfigError, match="'hihg' is unknown in queue 'celery'; did you mean 'high'"):
            moving.control.move('a', to_sub_queue='hihg')
        moving.control.set_sub_queue('low', capacity=2)
        assert moving.control.move('a', 'b', 'low').full
        moving.control.set_sub_queue('low', capacity=inf)
        assert len(moving.serve(slots=2)) == 4

    def test_beside_what_is_there_already(self, server):
        moving = Moving(server, TREE)
        moving.send('a', 'h', sub_queue='high')
        moving.send('a', 'x', 'y', sub_queue='low')
        assert moving.control.move('a', to_sub_queue='low').count == 1
        assert moving.names('a') == list('xyh') and moving.is_right()

    def test_from_one_that_is_declared_no_longer(self, server):
        moving = Moving(server, QoS(queues=[SubQueue('old', 100, 1), SubQueue('low', 100, 1)]))
        moving.send('a', *'xyz', sub_queue='old')
        moving.send('a', 'l', sub_queue='low')
        moving.control.configure(TREE)
        assert moving.control.move('a', to_sub_queue='high', sub_queue='old', count=1).count == 1
        assert moving.control.move('a', 'b').count == 4
        assert moving.names('b') == list('xlyz') and moving.is_right()
        assert sorted(name for _, name in moving.serve(slots=2)) == list('lxyz')


class TestToAQueue:
    def test_of_its_own_shape(self, server):
        moving = Moving(server, queues=('celery', 'slow'))
        celery_qos.setup(moving.app, queues={'slow': TREE})
        moving.send('b', 'b0', queue='celery')
        moving.send('a', 'x', 'y', queue='celery')
        moving.send('a', 'z', queue='celery', sub_queue=None)
        assert moving.control.move('a', to_queue='slow', queue='celery', dry_run=True).count == 3
        assert not moving.redis.keys('*slow*')
        moving.store.lease('slow', 'w', 1, 60)
        assert moving.control.move('a', to_queue='slow', queue='celery').count == 3
        assert moving.names('b') == ['b0'] and not moving.names('a')
        assert moving.is_right() and moving.is_right('slow')
        assert moving.names('a', 'slow') == ['y', 'z'], 'one has the free slot'
        properties = json.loads(moving.tasks('a', 'slow')[0][b'properties'])
        assert properties['delivery_info']['routing_key'] == 'slow'
        with pytest.raises(ConfigError, match="queue 'celery' has no sub-queues"):
            moving.control.move('a', to_queue='celery', to_sub_queue='low', queue='slow')
        assert [name for _, name in moving.serve('slow')] == ['x', 'y', 'z']
        moving.store.release('slow', 'w')
        kept = {keys.settings(keys.namespace('slow')).encode()}
        assert {key for key in moving.redis.scan_iter('{qos:slow:*') if b':published' not in key} == kept


@pytest.mark.once
def test_retries_and_children_follow_and_nothing_is_lost_at_work(server):
    """A worker serves both ends while tasks move."""
    ledger = Ledger(server)
    marks = [str(number) for number in range(60)]
    with ledger.publishing() as send:
        for mark in marks:
            send('a', mark, task='retried')
    control = celery_qos.control(ledger.app)
    first = control.move('a', 'b', count=30)
    with ledger.worker('threads', 2):
        second = control.move('a', 'b')
        assert first.count == 30 and second.count <= 30
        assert sorted(ledger.until('end', len(marks))) == sorted(marks)
        ledger.until_idle()


def test_the_command(moving, run):
    def move(*words: str) -> tuple[int, dict]:
        ran = run(moving.app, 'move', *words, '--json')
        return ran.code, ran.data if ran.out else {}

    moving.send(('acme', 'x'), 'x0', 'x1', 'x2')
    where = ('x', '--inside', 'acme', '--to-tenant', 'g', '--to-tenant', 'y')
    assert move(*where, '--dry-run') == (0, {'moved': 3, 'missing': [], 'full': False, 'dry_run': True})
    assert move(*where, '--task', 'x1', '--task', 'x9')[0] == 1
    assert move(*where, '--count', '1')[1]['moved'] == 1
    assert moving.names('g\x1fy') == ['x1', 'x0'] and moving.names('acme\x1fx') == ['x2'] and moving.is_right()
    moving.control.set_tenant(('g', 'y'), capacity=2)
    assert 'raise its capacity, or give --force' in run(moving.app, 'move', *where, code=1).out
    assert run(moving.app, 'move', *where, '--force', code=0).out == '1 task moved\n'
    assert move('nobody', '--to-tenant', 'g')[0] == 1
    assert 'say where to' in run(moving.app, 'move', 'nobody', code=2).err
