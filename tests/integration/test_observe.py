"""What `celery_qos.control(app)` says of a queue at work, against what was done to it."""
from __future__ import annotations

import json

import pytest
from redis import Redis

import celery_qos
from celery_qos import QoS, SubQueue, Tenant
from celery_qos.codec import tracked
from celery_qos.errors import ConfigError
from celery_qos.observe import SORTS
from celery_qos.publication import Publication
from celery_qos.store import Store

from ..until import until
from .ledger import Ledger

SUB_QUEUES = QoS('wrr', queues=(SubQueue('high', 100, 3), SubQueue('low', 100, 1)))


def setup(ledger: Ledger, qos: QoS) -> celery_qos.app.Control:
    celery_qos.setup(ledger.app, qos)
    return celery_qos.control(ledger.app)


def put(store: Store, tenants: int, each: int = 1) -> None:
    """Many waiting tasks of many tenants, without a task's body."""
    for first in range(0, tenants * each, 100):
        names = [f't{number % tenants}' for number in range(first, min(first + 100, tenants * each))]
        store.enqueue_all([Publication('celery', name, 0, {'tenant': name, 'headers': '{}'}) for name in names])


def test_a_queue_without_anything(server):
    status = celery_qos.control(Ledger(server).app).status()
    assert (status.queue, status.algorithm, status.slots, status.egress, status.waiting) == ('celery', 'wrr', 0, 0, 0)
    assert status.workers == status.sub_queues == () and not any(status.counts.values())
    assert celery_qos.control(Ledger(server).app).tenants() == []


def test_a_queue_at_work(server):
    ledger = Ledger(server, {'worker_prefetch_multiplier': 1})
    control = setup(ledger, QoS(tenants={'gold': Tenant(weight=3)}))
    with ledger.worker('threads', 1) as worker:
        ledger.send('busy', 'held', task='held_late', task_id='runs')
        ledger.until('start', 1)
        for number in range(5):
            ledger.send('busy', f'{number}', task_id=f'busy-{number}')
        ledger.send('gold', 'gold', task_id='gold')
        ledger.send('gold', 'later', countdown=3600, task_id='later')
        control.set_tenant('still', paused=True)
        ledger.send('still', 'still', task_id='paused')

        status = control.status()
        assert (status.slots, status.egress, status.waiting, status.delayed, status.dead) == (1, 1, 7, 1, 0)
        assert (status.tenants, status.idle_slots) == (3, 0)
        seen, = status.workers
        assert (seen.slots, seen.delivered) == (1, 1) and 0 < seen.lease <= 15

        tenants = {each.tenant: each for each in control.tenants()}
        assert [tenants[name].waiting for name in ('busy', 'gold', 'still')] == [5, 1, 1]
        assert [tenants[name].in_flight for name in ('busy', 'gold', 'still')] == [1, 0, 0]
        assert tenants['gold'].weight == 3 and tenants['still'].paused
        assert [tenants[name].entitlement for name in ('busy', 'gold', 'still')] == [1 / 4, 3 / 4, None]
        assert 0 <= tenants['gold'].wait <= tenants['busy'].wait < 30
        assert [each.tenant for each in control.tenants(sort='wait', top=1)] == ['busy']
        assert [each.tenant for each in control.tenants(sort='in_flight', top=1)] == ['busy']
        assert [each.tenant for each in control.tenants(sort='tenant', top=2)] == ['busy', 'gold']
        assert [each.tenant for each in control.tenants(match='[gs]*', sort='tenant')] == ['gold', 'still']
        with pytest.raises(ConfigError, match="'wating' is unknown; did you mean 'waiting'"):
            control.tenants(sort='wating')

        def why(subject, **options):
            found = control.why(subject, **options)
            return found.state, found.sentence

        assert why('runs')[0] == 'running' and 'delivered to' in why('runs')[1]
        state, sentence = why('busy-3')
        assert state == 'waiting' and 'behind 3 tasks of its own tenant' in sentence
        assert 'the only slot is taken, and its turn' in sentence
        assert why('later')[0] == 'delayed' and 'in 59 min' in why('later')[1]
        assert why('paused') == ('paused', "task paused of tenant 'still' waits: tenant 'still' is paused")
        assert why('still') == ('paused', "tenant 'still': 1 task waits: tenant 'still' is paused")
        assert why('busy')[0] == 'waiting' and "tenant 'busy': 5 tasks wait" in why('busy')[1]
        assert why('gold', kind='task')[0] == 'waiting'
        assert why('never') == (
            'unknown', "queue 'celery' has no task of this id, and knows no tenant of this name: 'never'")
        assert why('nobody', kind='tenant')[0] == 'unknown'
        control.set_tenant('idle', paused=True)
        assert why('idle') == ('paused', "tenant 'idle' is paused: nothing waits and nothing is in flight")

        control.set_tenant('busy', max_in_flight=1)
        ledger.let_end('held')
        ledger.until('end', 7)
        ledger.send('busy', 'again', task='held_early', task_id='again')
        ledger.until('start', 8)
        assert why('again') == ('running', f'task again is active in worker {worker.name}')
        ledger.send('busy', 'capped', task_id='capped')
        assert why('capped')[1].endswith("tenant 'busy' is at its cap, 1 of 1 in flight")
        control.set_tenant('gold', rate='1/h')
        ledger.send('gold', 'first')
        ledger.send('gold', 'throttled', task_id='throttled')
        ledger.let_end('again')
        ledger.until('end', 10)
        state, sentence = until(lambda: why('throttled')[0] == 'throttled' and why('throttled'))
        assert "tenant 'gold' has used up its rate of 1/h: the next may start in 59 min" in sentence
        rows = until(lambda: {each.tenant: each for each in control.tenants(sort='rate') if each.waits.count >= 7})
        assert rows['busy'].p50 <= rows['busy'].p99 and rows['busy'].rate > 0 and 0.5 < rows['busy'].share < 1
        assert control.status().waits.count >= rows['busy'].waits.count


def test_no_worker_is_there(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    ledger.send('t', task_id='one')
    assert control.why('one').sentence == "task one of tenant 't' waits: no worker has a lease on this queue"


def test_sub_queues_and_tuple_keys(server):
    ledger = Ledger(server)
    control = setup(ledger, SUB_QUEUES)
    for tenant, sub_queue in (('a', 'high'), ('a', 'low'), (('acme', 'alice'), 'low'), (('acme', 'bob'), 'low')):
        ledger.send(tenant, task_id=f'{tenant}-{sub_queue}', sub_queue=sub_queue)
    status = control.status()
    assert [(each.name, each.waiting, each.capacity, each.weight) for each in status.sub_queues] == [
        ('high', 1, 100, 3), ('low', 3, 100, 1)]
    rows = {(each.tenant, each.sub_queue): each for each in control.tenants()}
    assert rows['a', 'high'].waiting == rows['a', 'low'].waiting == rows[('acme', 'bob'), 'low'].waiting == 1
    assert rows['acme', 'low'].waiting == 2 and rows[('acme', 'bob'), 'low'].entitlement == 0.5
    assert control.why(('acme', 'alice')).state == 'waiting'
    control.set_sub_queue('low', paused=True)
    assert control.why('a-low').sentence == "task a-low of tenant 'a' waits: sub-queue 'low' is paused"


def test_a_dead_letter(server):
    ledger = Ledger(server)
    control = setup(ledger, QoS(max_deliveries=1))
    with ledger.worker('solo', 1):
        ledger.send('t', task='hopeless', task_id='poison')
        until(lambda: control.status().dead)
    assert control.why('poison').sentence == "task poison of tenant 't' is a dead letter: delivered 1 times"


@pytest.mark.once
def test_many_tenants_take_little_of_the_server_and_of_memory(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    with ledger.app.pool.acquire() as connection:
        put(connection.default_channel.store, 5000, 2)
    ledger.redis.config_resetstat()
    looked = []
    rows = control.tenants(top=7, progress=lambda count, of: looked.append((count, of)))
    assert len(rows) == 7 and rows[0].waiting == 2 and looked[-1] == (5000, 5000)
    assert len(control.tenants(top=None, sort='tenant')) == 5000
    commands = ledger.redis.info('commandstats')
    assert max(each['usec_per_call'] for each in commands.values()) < 5000
    assert 'cmdstat_keys' not in commands and commands['cmdstat_hscan']['calls'] < 100


def test_every_stream_of_egress_is_looked_at(server):
    ledger = Ledger(server)
    control = setup(ledger, QoS(egress=celery_qos.Egress(streams=3)))
    for number in range(6):
        ledger.send('t', task_id=f'task-{number}')
    with ledger.app.pool.acquire() as connection:
        connection.default_channel.store.lease('celery', 'w', 6, 60)
    fresh = celery_qos.control(Ledger(server).app)      # nobody has told it of the streams
    assert control.status().egress == 6
    assert [each.in_flight for each in fresh.tenants()] == [6]
    assert {fresh.why(f'task-{number}').state for number in range(6)} == {'running'}


def test_every_sort(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    for tenant, count in ('a', 1), ('b', 3), ('c', 2):
        for _ in range(count):
            ledger.send(tenant)
    for sort in SORTS:
        assert len(control.tenants(sort=sort)) == 3
    assert [each.tenant for each in control.tenants(sort='waiting')] == ['b', 'c', 'a']


def test_who_may_not_read_tasks_sees_the_rest(server):
    ledger = Ledger(server)
    ledger.send('t')
    client: Redis = ledger.redis
    client.execute_command('ACL', 'SETUSER', 'watch', 'on', '>secret', '~*', '+@all', '-xrange')
    try:
        limited = Store(Redis(unix_socket_path=server.socket, username='watch', password='secret'))
        status = celery_qos.observe.status.status_of(limited, 'celery')
        row, = celery_qos.observe.tenants.tenants_of(limited, 'celery', 'wait', 5, '', None)
        assert status.waiting == row.waiting == 1 and row.wait is None and row.tenant == 't'
    finally:
        client.acl_deluser('watch')


def test_large_tasks_take_little_of_the_server(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    with ledger.app.pool.acquire() as connection:
        store = connection.default_channel.store
    for tenant in 'before', 'heavy', 'small':
        store.enqueue_all([Publication('celery', tenant, priority, {
            'tenant': tenant, 'body': b'x' * 600_000, 'headers': json.dumps({'id': f'{tenant}-{priority}-{number}'})})
            for priority in (0, 3) for number in range(12 if tenant == 'heavy' else 1)])
    looked = [0]
    found = control.why('heavy-3-11', kind='task', progress=lambda count, of: looked.append(count))
    assert found.state == 'waiting' and found.facts['behind'] == 23
    # With more in a call, the server would serve nobody else while it reads their bodies.
    assert max(after - before for before, after in zip(looked, looked[1:])) == 1
    assert control.why('small-3-0', kind='task').facts['behind'] == 1
    assert control.why('none', kind='task', timeout=0).state == 'unknown'
    store.lease('celery', 'w', 10, 60)
    assert sum(each.in_flight for each in control.tenants(sort='wait')) == 10


def test_the_oldest_task_waits_since_it_was_published(server):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    ledger.send('acme')
    since, = (each.wait for each in control.tenants())
    until(lambda: control.tenants()[0].wait > since + 0.3)
    control.move('acme', 'beta')
    row, = control.tenants()
    assert row.tenant == 'beta' and row.wait > 0.3


def test_what_keeps_a_task_from_its_worker(server):
    ledger = Ledger(server)
    control = setup(ledger, QoS(default_tenant=Tenant(weight=2)))
    assert control.why(('never', 'seen'), kind='tenant').state == 'unknown'
    with ledger.app.pool.acquire() as connection:
        store = connection.default_channel.store
    ledger.send('acme', task_id='first')
    store.lease('celery', 'w', 3, 60)
    assert control.why('first').sentence.endswith('has its slot: a worker takes it next')
    store.release('celery', 'w')
    why = control.why('first')
    assert why.state == 'waiting' and why.sentence.endswith('has its slot, but no worker has a lease on this queue')
    store.lease('celery', 'dead', 1, 0.001)
    store.take(['celery'], 'dead', 1)
    why = until(lambda: control.why('first').state == 'waiting' and control.why('first'))
    assert why.sentence.endswith('whose lease has ended: it is delivered again when a worker is there')
    ledger.send('other', task_id='second')
    assert control.why('second').sentence.endswith('waits: no worker has a lease on this queue')

    control.set_egress(capacity=1)
    store.lease('celery', 'w', 3, 60)
    assert control.why('first').sentence.endswith('whose lease has ended: it is delivered again')
    why = control.why('second')
    assert why.sentence.endswith('waits: egress is at its capacity of 1, and its turn is next')
    ledger.send('acme', task_id='third')
    why = control.why('third')
    assert why.sentence.endswith('and its turn comes after 1 other tenant') and why.facts['before'] == [1]
    ledger.redis.delete('{qos:celery:0}:egress')
    assert control.status().idle_slots == 1
    assert control.why('third').sentence.endswith('1 slot is free, and its turn comes with the next dispatch')


def test_turns_and_reasons_in_sub_queues(server):
    ledger = Ledger(server)
    control = setup(ledger, SUB_QUEUES)
    with ledger.app.pool.acquire() as connection:
        store = connection.default_channel.store
    ledger.send('x', sub_queue='high')
    store.lease('celery', 'w', 1, 60)
    for tenant in 'a', 'b', 'c':
        ledger.send(tenant, sub_queue='high')
    for tenant in 'a', ('acme', 'alice'), ('acme', 'bob'):
        ledger.send(tenant, sub_queue='low')
    ledger.send('a', sub_queue='low')
    assert control.why('c').sentence == (
        "tenant 'c': 1 task waits: the only slot is taken, and its turn comes after others: its sub-queue next, in it "
        'after 2')
    why = control.why(('acme', 'bob'))
    assert why.sentence.endswith("others: its sub-queue after 1, in it tenant 'acme' after 1, in it after 1")
    assert why.facts['before'] == [1, 1, 1]
    control.set_sub_queue('low', paused=True)
    why = control.why('a')
    assert why.state == 'waiting' and why.facts['waiting'] == 3
    assert why.sentence == (
        "tenant 'a': 3 tasks wait: 1 in sub-queue 'high': the only slot is taken, and its turn is next; 2 in sub-queue "
        "'low': sub-queue 'low' is paused")
    assert [why.facts['sub_queues'][name]['state'] for name in ('high', 'low')] == ['waiting', 'paused']


def test_what_waits_in_sub_queues_that_are_declared_no_longer(server):
    ledger = Ledger(server)
    ledger.send('plain')
    control = setup(ledger, SUB_QUEUES)
    control.configure(SUB_QUEUES)
    for _ in range(3):
        ledger.send('acme', sub_queue='high')
    control.set_sub_queue('high', paused=True)
    for left in QoS(queues=(SubQueue('low', 100, 1), SubQueue('new', 100, 1))), QoS():
        control.configure(left)
        assert {(each.tenant, each.sub_queue, each.waiting) for each in control.tenants()} == {
            ('acme', 'high', 3), ('plain', '', 1)}
        assert (control.status().tenants, control.status().waiting) == (2, 4)
        assert control.why('acme').sentence == "tenant 'acme': 3 tasks wait: no worker has a lease on this queue"
        assert control.why('plain').state == 'waiting'


def test_in_flight_inside_others_and_after_an_early_acknowledgement(server):
    ledger = Ledger(server)
    control = setup(ledger, QoS(tenants={'busy': Tenant(max_in_flight=3)}))
    with ledger.app.pool.acquire() as connection:
        store = connection.default_channel.store
    store.lease('celery', 'w', 4, 60)
    for tenant in 'busy', 'busy', 'busy', ('acme', 'alice'):
        ledger.send(tenant)
    assert control.why('acme').sentence == "tenant 'acme': nothing waits; 1 task in flight"
    store.started('celery', 'w', filter(None, map(tracked, store.take(['celery'], 'w', 4))))
    assert [(each.tenant, each.in_flight) for each in control.tenants(sort='in_flight', top=1)] == [('busy', 3)]
    assert {each.tenant: each.in_flight for each in control.tenants()} == {
        'busy': 3, 'acme': 1, ('acme', 'alice'): 1}
    assert control.why('busy').sentence == "tenant 'busy': nothing waits; 3 tasks in flight"
