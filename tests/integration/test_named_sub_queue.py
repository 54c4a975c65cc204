"""The sub-queue that a task names: what producers stamp, and what tasks inherit."""
from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest
from celery import Celery, chord, group
from kombu import Connection

import celery_qos
from celery_qos import ConfigError, QoS
from celery_qos.embedded import EmbeddedRedis
from tests.integration.workers import Worker, environment
from tests.until import until

pytestmark = pytest.mark.filterwarnings('ignore:Task name')
QOS = {'sub_queues': [{'name': name, 'capacity': 100, 'weight': 1} for name in ('high', '1', 'Über Nacht', 'low')]}


@pytest.fixture
def app(server):
    app = Celery('producer', broker=server.url('qos'), set_as_current=False)
    app.conf.broker_transport_options = {'qos': QOS}
    app.set_current()
    with app.connection_for_write() as connection:
        # Kombu remembers, from one test to the next, that it is declared.
        app.amqp.queues['celery'](connection.default_channel).declare()
    yield app
    app.close()


@pytest.fixture
def named(redis):
    """The sub-queues that the tasks published since the last call named, sorted; '' where none. They lie in them."""
    def read():
        found = []
        for key in redis.keys('{qos:celery:0}:tenant:*'):
            sub_queue = key.decode().split(':tenant:', 1)[1].split(':', 2)[1]
            for entry_id, fields in redis.xrange(key):
                name = json.loads(fields[b'headers']).get('sub_queue', '')
                assert sub_queue == (name or 'low')
                assert 'sub_queue' not in json.loads(fields[b'properties'])
                found.append(name)
                redis.xdel(key, entry_id)
        return sorted(found)
    return read


def test_without_anything_a_task_names_none(app, named):
    @app.task
    def job(): ...
    job.delay()
    app.send_task('elsewhere.job')
    assert named() == ['', '']


def test_the_ways_to_name_one(app, named):
    @app.task(sub_queue='high')
    def job(): ...

    @app.task
    def other(): ...
    job.delay()
    job.apply_async(sub_queue='low')
    job.apply_async(headers={'sub_queue': 'low'})
    job.apply_async(sub_queue='1', headers={'sub_queue': 'low'})
    assert named() == ['1', 'high', 'low', 'low']
    other.s().set(sub_queue='high').delay()
    other.apply_async(sub_queue=1)
    other.apply_async(sub_queue='Über Nacht')
    app.send_task('elsewhere.job', sub_queue='high')
    app.send_task('elsewhere.job', headers={'sub_queue': 'high'})
    assert named() == ['1', 'high', 'high', 'high', 'Über Nacht']


def test_a_task_that_names_none_though_it_has_one(app, named):
    @app.task(sub_queue='high')
    def job(): ...
    job.apply_async(sub_queue='')
    job.apply_async(sub_queue=None)
    assert named() == ['', 'high']


def test_of_a_base(app, named):
    class Base(app.Task):
        abstract = True
        sub_queue = 'high'

    @app.task(base=Base)
    def job(): ...
    job.delay()
    assert named() == ['high']


def test_groups(app, named):
    @app.task
    def job(): ...
    group(job.s(), job.s().set(sub_queue='1')).apply_async(headers={'sub_queue': 'high'})
    assert named() in (['high', 'high'], ['1', 'high'])
    group(job.s(), job.s()).apply_async(sub_queue='high')
    assert named() == ['high', 'high']


def test_task_protocol_1(app, named):
    app.conf.task_protocol = 1

    @app.task(sub_queue='high')
    def job(): ...
    job.delay()
    job.apply_async(sub_queue='1')
    assert named() == ['1', 'high']


@pytest.mark.parametrize('way', ['option', 'header', 'task'])
@pytest.mark.parametrize('name, complaint', [
    (7.5, 'text'), (True, 'text'), (['high'], 'text'), (b'high', 'text'), (max, 'text'), ('a:b', 'colon'),
    ('ingress', 'reserved'), ('x' * 256, '255 bytes'), ('hihg', 'hihg')])
def test_what_is_none_is_refused_where_it_is_published(app, named, way, name, complaint):
    @app.task(name='shop.job', sub_queue=name if way == 'task' else None, serializer='pickle')
    def job(): ...
    options = {'option': {'sub_queue': name}, 'header': {'headers': {'sub_queue': name}}, 'task': {}}[way]
    with pytest.raises(ConfigError) as caught:
        job.apply_async(**options)
    assert complaint in str(caught.value) and 'sub' in str(caught.value)
    assert named() == []
    job.apply_async(sub_queue='high')
    assert named() == ['high']


def test_a_plain_kombu_producer_can_name_one_too(server, named):
    with Connection(server.url('qos'), transport_options={'qos': QOS}) as connection:
        connection.default_channel.queue_declare('celery')
        connection.Producer().publish({}, routing_key='celery', headers={'sub_queue': 'high'})
        with pytest.raises(ConfigError):
            connection.Producer().publish({}, routing_key='celery', headers={'sub_queue': ['high']})
    assert named() == ['high']


def test_a_retry_whose_sub_queue_is_gone_is_not_lost(app):
    app.send_task('elsewhere.job', sub_queue='high')
    new = QoS.from_data({'sub_queues': [each for each in QOS['sub_queues'] if each['name'] != 'high']})
    celery_qos.control(app).configure(new)
    with pytest.raises(ConfigError, match="'high' is unknown in queue 'celery'"):
        app.send_task('elsewhere.job', sub_queue='high')
    app.send_task('elsewhere.job', sub_queue='high', retries=1)
    with app.connection_for_read() as connection:
        assert connection.default_channel.store.waiting('celery') == {'high:': 1, 'low:': 1}


# -- real workers

@pytest.fixture(scope='module', params=['native', 'chord_unlock'])
def world(request, tmp_path_factory):
    """The tasks of apps/sub_queues.py, with a worker; and what gives tag to sub-queue once these have run."""
    with EmbeddedRedis() as redis:
        backend = redis.url('redis', 1)
        if request.param == 'chord_unlock':
            backend = f'file://{tmp_path_factory.mktemp("results")}'
        env = {'QOS_TEST_NOTES': redis.socket}
        with Worker(redis.url('qos'), app='tests.integration.apps.sub_queues', backend=backend, env=env) as worker, \
                pytest.MonkeyPatch.context() as patch:
            for name, value in environment(redis.url('qos'), backend, env).items():
                patch.setenv(name, value)
            sys.modules.pop('tests.integration.apps.sub_queues', None)
            tasks = import_module('tests.integration.apps.sub_queues')
            client = redis.client(2)

            def notes(*tags):
                def read():
                    noted = dict(json.loads(note) for note in client.lrange('notes', 0, -1))
                    return noted if set(tags) <= set(noted) else None
                noted = until(read, 20, f'{tags} among {client.lrange("notes", 0, -1)}; {worker.log()}')
                client.delete('notes')
                return {tag: noted[tag] for tag in tags}

            yield tasks, notes
            tasks.app.close()


@pytest.fixture
def tasks(world):
    world[0].app.set_current()
    return world[0]


@pytest.fixture
def notes(world):
    return world[1]


def test_a_worker_sees_it(tasks, notes):
    tasks.note.apply_async(('option',), sub_queue='high')
    tasks.urgent.delay('task')
    tasks.note.delay('none')
    assert notes('option', 'task', 'none') == {'option': 'high', 'task': 'high', 'none': None}


def test_a_retry_keeps_it(tasks, notes):
    tasks.retried.apply_async(('option',), sub_queue='high')
    assert notes('option 0', 'option 1', 'option 2') == dict.fromkeys(['option 0', 'option 1', 'option 2'], 'high')
    tasks.urgent_retried.delay('again')
    assert notes('again 0', 'again 1') == {'again 0': 'high', 'again 1': 'high'}


@pytest.mark.parametrize('given', ['low', ''])
def test_a_retry_keeps_what_was_given_and_not_the_tasks_own(tasks, notes, given):
    tasks.urgent_retried.apply_async(('other',), sub_queue=given)
    assert notes('other 0', 'other 1') == {'other 0': given, 'other 1': given}


def test_a_retry_can_name_another(tasks, notes):
    tasks.retried.apply_async(('r', ['low', 'high']), sub_queue='high')
    assert notes('r 0', 'r 1', 'r 2') == {'r 0': 'high', 'r 1': 'low', 'r 2': 'high'}


def test_what_a_task_publishes_does_not_inherit_it(tasks, notes):
    tasks.nested.apply_async(('n',), sub_queue='high')
    assert notes('n', 'n > delay', 'n > urgent', 'n > named', 'n > group', 'n > chain', 'n > chain tail') == {
        'n': 'high', 'n > delay': None, 'n > urgent': 'high', 'n > named': 'low', 'n > group': None,
        'n > chain': None, 'n > chain tail': None}


def test_a_link_does_not_inherit_it(tasks, notes):
    tasks.note.apply_async(('ok',), sub_queue='high', link=tasks.after.s('link'))
    assert notes('ok', 'link') == {'ok': 'high', 'link': None}


def test_chord(tasks, notes):
    chord([tasks.note.s('a'), tasks.note.s('b')], tasks.after.s('body')).apply_async(sub_queue='high')
    assert notes('a', 'b', 'body')['body'] == 'high'
