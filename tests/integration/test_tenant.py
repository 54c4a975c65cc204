"""Whose a task is: what producers stamp, and what tasks inherit."""
from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from contextvars import ContextVar, copy_context
from decimal import Decimal
from importlib import import_module
from uuid import UUID

import pytest
from celery import Celery, Task, chain, chord, group, shared_task
from celery.beat import Scheduler
from celery.schedules import schedule
from kombu import Connection

import celery_qos
from celery_qos import ConfigError, TenantKeyError
from celery_qos.embedded import EmbeddedRedis
from tests.integration.workers import ROOT, Worker, environment
from tests.until import until

pytestmark = pytest.mark.filterwarnings('ignore:Task name')

# -- what producers stamp: nobody consumes, so every task lies in its tenant's stream


@pytest.fixture
def app(server):
    app = Celery('producer', broker=server.url('qos'), set_as_current=False)
    app.set_current()
    yield app
    app.close()


@pytest.fixture
def tenants(redis):
    """The tenants of the tasks published since the last call, sorted."""
    def read():
        found = []
        for key in redis.keys('{qos:celery:0}:tenant:*'):
            sub_queue, tenant = key.decode().split(':tenant:', 1)[1].split(':', 2)[1:]
            tenant = tenant.removesuffix('\x1f')       # its own tasks, beside those of the tenants inside it
            for _, fields in redis.xrange(key):
                assert sub_queue == ''
                assert fields[b'tenant'].decode() == tenant
                stamped = json.loads(fields[b'headers']).get('tenant', '')
                assert stamped == (tenant.split('\x1f') if '\x1f' in tenant else tenant)
                assert 'tenant' not in json.loads(fields[b'properties'])
                found.append(tenant)
        Connection(f'qos+socket://{redis.connection_pool.connection_kwargs["path"]}').channel().queue_purge('celery')
        return sorted(found)
    return read


def test_without_anything_a_task_is_of_the_empty_tenant(app, tenants):
    @app.task
    def job(): ...
    job.delay()
    assert tenants() == ['']


def test_tenant_key_names_an_argument(app, tenants):
    @app.task(tenant_key='account')
    def job(what, account='anonymous', *rest, flag=False): ...
    job.delay('x', 'positional')
    job.delay('x', account='keyword')
    job.delay(account='first', what='x')
    job.delay('x')
    job.apply_async(('x', 'args'))
    job.apply_async(('x',), {'account': 'kwargs'})
    job.s('x').delay(account='signature')
    job.si('x', 'immutable').apply_async()
    job.delay('x', 'rest', 1, 2, flag=True)
    assert tenants() == ['anonymous', 'args', 'first', 'immutable', 'keyword', 'kwargs', 'positional', 'rest',
                         'signature']


def test_the_current_tenant_is_asked_last(app, tenants):
    current = ContextVar('current', default=None)
    celery_qos.setup(app, current_tenant=current.get)

    @app.task(tenant_key='account')
    def job(account=None): ...

    def publish(key):
        current.set(key)
        job.delay()
        job.delay('keyed')
        job.apply_async(tenant='explicit')
        job.apply_async(tenant='')
        app.send_task('elsewhere')
        group(job.s(), job.s('keyed')).delay()

    copy_context().run(publish, ('acme', 7))
    job.delay()
    assert tenants() == ['', '', *['acme\x1f7'] * 3, 'explicit', 'keyed', 'keyed']


def test_inside_a_task_the_current_tenant_changes_nothing(app, tenants):
    celery_qos.setup(app, current_tenant=lambda: 'current')

    @app.task
    def job(): ...

    @app.task
    def outer():
        job.delay()

    outer.apply(headers={'tenant': 'acme'})
    outer.apply(headers={'tenant': ''})
    outer.apply()
    app.send_task('job', retries=1)
    assert tenants() == ['', '', 'acme', 'current']


@pytest.mark.parametrize('key, complaint', [
    (None, r"task 'job': current_tenant .*broken.* raised RuntimeError\('out of context'\)"), ('x' * 256, '256 bytes')])
def test_a_current_tenant_that_cannot_be(app, tenants, key, complaint):
    def broken():
        if key is None:
            raise RuntimeError('out of context')
        return key
    celery_qos.setup(app, current_tenant=broken)
    with pytest.raises(TenantKeyError, match=complaint):
        app.send_task('job')
    app.send_task('job', tenant='said')
    assert tenants() == ['said']


def test_tenant_key_can_give_a_path(app, tenants):
    @app.task(tenant_key=lambda account, user=None: (account, user) if user else account)
    def job(account, user=None): ...

    @app.task(tenant_key='path')
    def by_name(path): ...
    job.delay('acme', 'alice')
    job.delay('acme', 7)
    job.delay('acme')
    by_name.delay(['acme', 'bob'])
    job.apply_async(('acme', 'alice'), tenant=('option', 'x'))
    job.s('acme', 'alice').set(tenant=('set', 'x')).delay()
    assert tenants() == ['acme', 'acme\x1f7', 'acme\x1falice', 'acme\x1fbob', 'option\x1fx', 'set\x1fx']


def test_tenant_key_can_be_a_callable(app, tenants):
    def tenant_of(order, **options):
        return order['account']

    @app.task(tenant_key=tenant_of)
    def job(order, dry=False): ...

    @app.task(tenant_key=lambda order, dry=False: order['account'])
    def by_lambda(order, dry=False): ...

    @app.task(bind=True, tenant_key=tenant_of)
    def bound(self, order, dry=False): ...

    class OfOrder:
        def __call__(self, order, dry=False):
            return order['account']

    @app.task(tenant_key=OfOrder())
    def by_object(order, dry=False): ...

    @app.task(tenant_key=str)
    def by_type(number): ...

    for task in job, by_lambda, bound, by_object:
        task.delay({'account': 'a'}, dry=True)
    by_type.delay(7)
    assert tenants() == ['7', 'a', 'a', 'a', 'a']


def test_tenant_key_of_a_bound_task(app, tenants):
    @app.task(bind=True, tenant_key='account')
    def job(self, account): ...
    job.delay('bound')
    assert tenants() == ['bound']


def test_tenant_key_of_a_class(app, tenants):
    class Job(Task):
        name = 'job'
        tenant_key = 'account'

        def run(self, account): ...

    class ByMethod(Task):
        name = 'by_method'

        def tenant_key(self, account):
            return f'{account}!'

        def run(self, account): ...

    app.register_task(Job()).delay('class')
    app.register_task(ByMethod()).delay('method')
    assert tenants() == ['class', 'method!']


def test_tenant_key_of_a_base(app, tenants):
    class Base(Task):
        abstract = True
        tenant_key = 'account'

    @app.task(base=Base)
    def job(account): ...
    job.delay('base')
    assert tenants() == ['base']


def test_tenant_key_of_a_shared_task(app, tenants):
    @shared_task(tenant_key='account')
    def job_shared(account): ...
    job_shared.delay('shared')
    assert tenants() == ['shared']


def test_tenant_key_among_any_keywords(app, tenants):
    @app.task(tenant_key='account')
    def job(**kwargs): ...
    job.delay(account='any')
    job.delay(other=1)
    assert tenants() == ['', 'any']


def test_tenant_key_of_a_keyword_only_argument(app, tenants):
    @app.task(tenant_key='account')
    def job(*args, account='nobody'): ...
    job.delay(1, account='only')
    job.delay(1)
    assert tenants() == ['nobody', 'only']


def test_explicit_tenants(app, tenants):
    @app.task(tenant_key='account')
    def job(account): ...
    job.apply_async(('key',), tenant='option')
    job.apply_async(('key',), headers={'tenant': 'header'})
    job.apply_async(('key',), tenant='option', headers={'tenant': 'header'})
    job.s('key').set(tenant='set').delay()
    job.s('key').set(headers={'tenant': 'set header'}).delay()
    assert tenants() == ['header', 'option', 'option', 'set', 'set header']


def test_a_tenant_of_the_tasks_own_options(app, tenants):
    @app.task(tenant='fixed')
    def job(): ...
    job.delay()
    assert tenants() in (['fixed'], [''])


def test_send_task_needs_no_code(app, tenants):
    app.send_task('elsewhere.job', (1,))
    app.send_task('elsewhere.job', (1,), tenant='option')
    app.send_task('elsewhere.job', (1,), headers={'tenant': 'header'})
    assert tenants() == ['', 'header', 'option']


def test_send_task_honours_the_key_of_a_task_that_is_known(app, tenants):
    @app.task(name='known', tenant_key='account')
    def job(account): ...
    app.send_task('known', ('first',))
    app.send_task('known', (), {'account': 'second'})
    assert tenants() == ['first', 'second']


def test_task_protocol_1(app, tenants):
    app.conf.task_protocol = 1

    @app.task(tenant_key='account')
    def job(account): ...
    job.delay('key')
    job.apply_async(('key',), tenant='option')
    job.apply_async(('key',), headers={'tenant': 'header'})
    assert tenants() == ['header', 'key', 'option']


def test_groups_and_chunks(app, tenants):
    @app.task(tenant_key='account')
    def job(account, n=0): ...
    group(job.s('a'), job.s('b')).delay()
    assert tenants() == ['a', 'b']
    group(job.s('a'), job.s('b')).apply_async(tenant='all')
    assert tenants() == ['all', 'all']
    job.starmap([('a', 1), ('b', 2)]).apply_async(tenant='star')
    job.map(['a', 'b']).apply_async(headers={'tenant': 'map'})
    assert tenants() == ['map', 'star']
    job.chunks([('a', 1), ('b', 2)], 1).group().apply_async(tenant='chunk')
    assert tenants() == ['chunk', 'chunk']


def test_a_map_is_one_message_so_its_items_name_no_tenant(app, tenants):
    @app.task(tenant_key='account')
    def job(account, n=0): ...
    job.starmap([('a', 1), ('b', 2)]).delay()
    assert tenants() == ['']


def test_beat_entries(app, tenants):
    @app.task(name='job', tenant_key='account')
    def job(account): ...
    entry = {'task': 'job', 'schedule': schedule(1), 'args': ('key',)}
    app.conf.beat_schedule = {
        'by key': entry,
        'by header': {**entry, 'options': {'headers': {'tenant': 'h'}}},
        'by option': {**entry, 'options': {'tenant': 'o'}},
    }
    beat = Scheduler(app)
    for name in app.conf.beat_schedule:
        beat.apply_async(beat.schedule[name], advance=False)
    assert tenants() == ['h', 'key', 'o']


def test_one_options_dict_can_be_used_again(app, tenants):
    @app.task(tenant_key='account')
    def job(account): ...
    headers, options = {'x': 1}, {'tenant': 'o'}
    job.apply_async(('a',), headers=headers)
    job.apply_async(('b',), headers=headers)
    job.apply_async(('c',), **options)
    assert headers == {'x': 1} and options == {'tenant': 'o'}
    assert tenants() == ['a', 'b', 'o']


GOOD = {
    'text': ('acme', 'acme'),
    'int': (42, '42'),
    'zero': (0, '0'),
    'uuid': (UUID(int=7), '00000000-0000-0000-0000-000000000007'),
    'decimal': (Decimal('1.50'), '1.50'),
    'empty': ('', ''),
    'none': (None, ''),
    'spaces': (' a b ', ' a b '),
    'colons and braces': ('a:b}{c', 'a:b}{c'),
    'glob': ('*[x]?', '*[x]?'),
    'unicode': ('Zoë ☃ 李', 'Zoë ☃ 李'),
    '255 bytes': ('ü' * 127 + 'x', 'ü' * 127 + 'x'),
    'path': (('acme', 'alice'), 'acme\x1falice'),
    'path of numbers': ([1, UUID(int=7), 'x'], '1\x1f00000000-0000-0000-0000-000000000007\x1fx'),
    'path of one': (('acme',), 'acme'),
    'path of long ones': (('x' * 255,) * 3, '\x1f'.join(['x' * 255] * 3)),
    'path with colons': (('a:b', ':'), 'a:b\x1f:'),
}


@pytest.mark.parametrize('kind', GOOD)
@pytest.mark.parametrize('way', ['key', 'option', 'header'])
def test_keys(app, tenants, kind, way):
    given, expected = GOOD[kind]

    @app.task(tenant_key='account', serializer='pickle')
    def job(account=None): ...
    publish(job, given, way)
    assert tenants() == [expected]


def publish(job, given, way):
    if way == 'key':
        job.delay(given)
    elif way == 'option':
        job.apply_async((), tenant=given)
    else:
        job.apply_async((), headers={'tenant': given})


BAD = {
    'too long': ('x' * 256, '256 bytes'),
    'too long in UTF-8': ('ü' * 128, '256 bytes'),
    'newline': ('a\nb', 'not printable'),
    'nul': ('a\0b', 'not printable'),
    'lone surrogate': ('a\ud800', 'not printable'),
    'bytes': (b'acme', 'bytes'),
    'dict': ({'a': 1}, 'dict'),
    'set': ({'a'}, 'set'),
    'empty path': ((), 'has 0 parts'),
    'long path': (('a', 'b', 'c', 'd'), 'has 4 parts'),
    'path in a path': (('a', ('b', 'c')), 'tuple'),
    'empty part': (('a', ''), '0 bytes'),
    'part that is none': (('a', None), 'None'),
    'part that is not printable': (('a', 'b\n'), 'not printable'),
    'path as text': ('acme\x1falice', 'not printable'),
}


@pytest.mark.parametrize('kind', BAD)
@pytest.mark.parametrize('way', ['key', 'option', 'header'])
def test_bad_keys_are_raised_where_they_are_published(app, redis, tenants, kind, way):
    given, complaint = BAD[kind]

    @app.task(tenant_key='account', serializer='pickle')
    def job(account=None): ...
    with pytest.raises(TenantKeyError) as caught:
        publish(job, given, way)
    assert complaint in str(caught.value) and 'tenant' in str(caught.value)
    assert repr(given)[:20] in str(caught.value)
    assert tenants() == []
    job.delay('good')
    assert tenants() == ['good']


def test_a_text_that_cannot_be_had(app, tenants):
    class Mute:
        def __str__(self):
            raise RuntimeError('no text')

        __repr__ = object.__repr__

    @app.task
    def job(): ...
    with pytest.raises(TenantKeyError, match='no text'):
        job.apply_async(tenant=Mute())
    assert tenants() == []


def test_a_key_that_names_no_argument(app, tenants):
    @app.task(name='shop.job', tenant_key='acount')
    def job(account): ...
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            job.delay('x')
        assert 'shop.job' in str(caught.value) and "'acount'" in str(caught.value) and 'account' in str(caught.value)
    assert tenants() == []


@pytest.mark.parametrize('key', [7, ['account'], True])
def test_a_key_that_is_neither_a_name_nor_a_callable(app, tenants, key):
    @app.task(name='shop.job', tenant_key=key)
    def job(account): ...
    with pytest.raises(ConfigError, match=r'shop\.job'):
        job.delay('x')
    assert tenants() == []


def test_a_callable_that_raises(app, tenants):
    @app.task(name='shop.job', tenant_key=lambda account: account['id'])
    def job(account): ...
    with pytest.raises(TenantKeyError) as caught:
        job.delay({})
    assert 'shop.job' in str(caught.value) and "KeyError('id')" in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)
    assert tenants() == []


def test_a_callable_that_says_none(app, tenants):
    @app.task(tenant_key=lambda: None)
    def job(): ...
    job.delay()
    assert tenants() == ['']


def test_of_two_apps_with_a_task_of_one_name_the_current_one_counts(server, tenants):
    apps = [Celery(name, broker=server.url('qos'), set_as_current=False) for name in ('one', 'two')]
    for number, app in enumerate(apps):
        @app.task(name='own', shared=False, tenant_key=lambda number=number: f'app{number}')
        def job(): ...
    for number, app in enumerate(apps):
        app.set_current()
        app.tasks['own'].delay()
        assert tenants() == [f'app{number}']
        app.close()


def test_a_plain_kombu_producer_can_stamp_too(server, tenants):
    with Connection(server.url('qos')) as connection:
        connection.Producer().publish({}, routing_key='celery', headers={'tenant': 'acme'})
        connection.Producer().publish({}, routing_key='celery', headers={'tenant': 42, 'task': 'x'})
        connection.Producer().publish({}, routing_key='celery', headers={'tenant': ['acme', 42]})
        with pytest.raises(TenantKeyError):
            connection.Producer().publish({}, routing_key='celery', headers={'tenant': [['x']]})
    with Connection(server.url('qos')) as connection:
        assert connection.default_channel.queue_declare('celery', passive=True).message_count == 3


# -- processes that import nothing of celery_qos

def run(code, **env):
    ended = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], cwd=ROOT, text=True, capture_output=True,
                           timeout=60, env={**environment(env.pop('broker')), **env})
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize('publish', ["job.delay('first')", "app.send_task('job', ('first',))",
                                     "job.s('first').apply_async()"])
def test_the_first_publish_of_a_process_finds_its_tenant(server, tenants, publish):
    run(f'''
        import os, sys
        from celery import Celery
        app = Celery('x')
        app.conf.broker_url = os.environ['QOS_TEST_BROKER']

        @app.task(name='job', tenant_key='account')
        def job(account): ...

        assert 'celery_qos.transport' not in sys.modules
        {publish}
    ''', broker=server.url('qos'))
    assert tenants() == ['first']


def test_other_transports_are_left_alone():
    out = run('''
        import sys
        from celery import Celery
        app = Celery('x', broker='memory://', backend='cache+memory://')

        @app.task(tenant_key='account')
        def job(account):
            return account

        job.apply_async(('a',), headers={'h': 1})
        with app.connection_for_read() as connection:
            message = connection.SimpleQueue('celery').get(timeout=5)
        print(message.headers.get('tenant'), message.headers['h'])
        print(job.apply(('eager',)).get())
        app.conf.task_always_eager = True
        print(job.delay('always').get())
        print('celery_qos.transport' in sys.modules)
    ''', broker='memory://')
    assert out.split() == ['None', '1', 'eager', 'always', 'False']


def test_other_transports_work_beside_ours():
    out = run('''
        from celery import Celery
        import celery_qos.transport
        app = Celery('x', broker='memory://')

        @app.task(tenant_key='account')
        def job(account): ...

        job.delay('a')
        job.apply_async(('a',), tenant='b')
        try:
            job.apply_async(('a',), tenant={'a': 'b'})
        except Exception as exc:
            print(type(exc).__name__)
        with app.connection_for_read() as connection:
            queue = connection.SimpleQueue('celery')
            print(*(queue.get(timeout=5).headers['tenant'] for _ in range(2)))
    ''', broker='memory://')
    assert out.split()[-2:] == ['a', 'b']


# -- what tasks inherit: real workers

@pytest.fixture(scope='module', params=['native', 'chord_unlock'])
def world(request, tmp_path_factory):
    """A worker of apps/tenants.py and the tasks to publish to it, on a backend with and one without native chords."""
    with EmbeddedRedis() as redis:
        backend = redis.url('redis', 1)
        if request.param == 'chord_unlock':
            backend = f'file://{tmp_path_factory.mktemp("results")}'
        env = {'QOS_TEST_NOTES': redis.socket, 'PYTHONHASHSEED': '0'}
        with Worker(redis.url('qos'), app='tests.integration.apps.tenants', backend=backend, env=env,
                    concurrency=2) as worker, pytest.MonkeyPatch.context() as patch:
            for name, value in environment(redis.url('qos'), backend, env).items():
                patch.setenv(name, value)
            sys.modules.pop('tests.integration.apps.tenants', None)
            tasks = import_module('tests.integration.apps.tenants')
            yield World(redis, worker, tasks)
            tasks.app.close()


class World:
    def __init__(self, redis, worker, tasks):
        self.worker, self.tasks = worker, tasks
        self.redis = redis.client(2)

    def notes(self, *tags, timeout=20):
        """Tag to tenant, once the tasks of these tags have run."""
        def read():
            noted = dict(json.loads(note) for note in self.redis.lrange('notes', 0, -1))
            return noted if set(tags) <= set(noted) else None
        try:
            noted = until(read, timeout, f'the notes of {tags}')
        except AssertionError:
            print(self.redis.lrange('notes', 0, -1), self.worker.log(), sep='\n')
            raise
        finally:
            self.redis.delete('notes')
        return {tag: noted[tag] for tag in tags}

    @property
    def native(self):
        return self.tasks.app.backend.supports_native_join


@pytest.fixture(autouse=True)
def _current(request):
    if 'world' in request.fixturenames:
        request.getfixturevalue('world').tasks.app.set_current()


def all_of(tenant, *tags):
    return dict.fromkeys(tags, tenant)


def test_a_worker_sees_the_tenant_of_its_task(world):
    world.tasks.note.apply_async(('option',), tenant='o')
    world.tasks.keyed.delay('k', 'key')
    world.tasks.shared.delay('s', 'shared')
    world.tasks.app.tasks['by_class'].delay('c', 'class')
    world.tasks.note.delay('none')
    assert world.notes('option', 'key', 'shared', 'class', 'none') \
        == {'option': 'o', 'key': 'k', 'shared': 's', 'class': 'c', 'none': None}


def test_what_a_task_publishes_is_of_its_tenant(world):
    world.tasks.nested.apply_async(('n',), tenant='acme')
    inherited = ['n', 'n > delay', 'n > send_task', 'n > eager > delay', 'n > group', 'n > chain', 'n > chain tail',
                 'n > header', 'n > body']
    assert world.notes(*inherited, 'n > explicit', 'n > keyed') \
        == {**all_of('acme', *inherited), 'n > explicit': 'other', 'n > keyed': 'by-key'}


def test_a_path_is_inherited(world):
    tasks = world.tasks
    tasks.nested.apply_async(('n',), tenant=('acme', 7))
    tasks.retried.apply_async(('r',), tenant=('acme', 7))
    chord([tasks.note.s('a'), tasks.note.s('b')], tasks.after.s('body')).apply_async(tenant=('acme', 7))
    tags = 'n', 'n > delay', 'n > chain tail', 'n > body', 'r 0', 'r 1', 'r 2', 'a', 'b', 'body'
    assert world.notes(*tags) == all_of(['acme', '7'], *tags)


def test_retries_keep_their_tenant(world):
    world.tasks.retried.apply_async(('r',), tenant='acme')
    assert world.notes('r 0', 'r 1', 'r 2') == all_of('acme', 'r 0', 'r 1', 'r 2')


def test_a_retry_can_name_another_tenant(world):
    world.tasks.retried.apply_async(('r', ['b', 'c']), tenant='a')
    assert world.notes('r 0', 'r 1', 'r 2') == {'r 0': 'a', 'r 1': 'b', 'r 2': 'c'}


def test_links_and_errbacks(world):
    world.tasks.note.apply_async(('ok',), tenant='acme', link=world.tasks.after.s('link'))
    world.tasks.failing.apply_async(('fails',), tenant='acme', link_error=world.tasks.errback.s('errback'))
    assert world.notes('ok', 'link', 'fails', 'errback') == all_of('acme', 'ok', 'link', 'fails', 'errback')


def test_a_link_has_its_own_key(world):
    world.tasks.note.apply_async(('ok',), tenant='acme', link=world.tasks.keyed.si('own', 'link'))
    assert world.notes('ok', 'link') == {'ok': 'acme', 'link': 'own'}


def test_replace(world):
    world.tasks.replaced.apply_async(('r',), tenant='acme')
    assert world.notes('r', 'r > replacement') == all_of('acme', 'r', 'r > replacement')


def test_chain(world):
    tasks = world.tasks
    chain(tasks.note.s('one'), tasks.after.s('two'), tasks.replaced.si('three'), tasks.after.s('four')) \
        .apply_async(tenant='acme')
    tags = 'one', 'two', 'three', 'three > replacement', 'four'
    assert world.notes(*tags) == all_of('acme', *tags)


def test_group(world):
    group(world.tasks.note.s('a'), world.tasks.note.s('b')).apply_async(tenant='acme')
    assert world.notes('a', 'b') == all_of('acme', 'a', 'b')


def test_chord(world):
    tasks = world.tasks
    chord([tasks.note.s('a'), tasks.note.s('b')], tasks.after.s('body')).apply_async(tenant='acme')
    assert world.notes('a', 'b', 'body') == all_of('acme', 'a', 'b', 'body')


def test_chord_by_header(world):
    tasks = world.tasks
    chord([tasks.note.s('a'), tasks.note.s('b')], tasks.after.s('body')).apply_async(headers={'tenant': 'acme'})
    assert world.notes('a', 'b', 'body') == all_of('acme', 'a', 'b', 'body')


def test_chord_of_keyed_tasks(world):
    tasks = world.tasks
    chord([tasks.keyed.s('acme', 'a'), tasks.keyed.s('acme', 'b')], tasks.after.s('body')).delay()
    # The last task of the header publishes the body; else chord_unlock does, which is published by no task.
    assert world.notes('a', 'b', 'body') == {**all_of('acme', 'a', 'b'), 'body': 'acme' if world.native else None}


def test_chord_in_a_chain(world):
    tasks = world.tasks
    chain(tasks.note.s('one'), group(tasks.after.s('a'), tasks.after.s('b')), tasks.after.s('body'),
          tasks.after.s('tail')).apply_async(tenant='acme')
    assert world.notes('one', 'a', 'b', 'body', 'tail') == all_of('acme', 'one', 'a', 'b', 'body', 'tail')


def test_errback_of_a_failed_chord(world):
    tasks = world.tasks
    body = tasks.after.s('body')
    body.link_error(tasks.errback.s('errback'))
    chord([tasks.note.s('a'), tasks.failing.s('b')], body).apply_async(tenant='acme')
    assert world.notes('a', 'b', 'errback') == all_of('acme', 'a', 'b', 'errback')


def test_starmap_and_chunks(world):
    tasks = world.tasks
    tasks.nested.starmap([('n',)]).apply_async(tenant='acme')
    assert world.notes('n > delay', 'n > group') == all_of('acme', 'n > delay', 'n > group')
    tasks.eager.chunks([('x',), ('y',)], 1).group().apply_async(tenant='acme')
    assert world.notes('x > delay', 'y > delay') == all_of('acme', 'x > delay', 'y > delay')


def test_protocol_1_is_inherited_too(world):
    conf = world.tasks.app.conf
    conf.task_protocol = 1
    try:
        world.tasks.nested.apply_async(('n',), tenant='acme')
    finally:
        conf.task_protocol = 2
    assert world.notes('n', 'n > delay') == all_of('acme', 'n', 'n > delay')


def test_the_errback_of_a_task_that_lost_its_process(world):
    world.tasks.lost.apply_async(('x',), tenant='acme', link_error=world.tasks.errback.s('lost'))
    assert world.notes('lost') == {'lost': 'acme'}


def test_the_errback_of_a_task_that_hit_its_hard_time_limit(world):
    world.tasks.endless.apply_async(('x',), tenant='acme', time_limit=1, link_error=world.tasks.errback.s('late'))
    assert world.notes('late') == {'late': 'acme'}


def test_an_errback_that_is_called_publishes_for_the_tenant(world):
    world.tasks.lost.apply_async(('x',), tenant='acme', link_error=world.tasks.called_errback.s())
    assert world.notes('published by a called errback') == {'published by a called errback': 'acme'}


def test_the_errback_of_a_chord_whose_member_lost_its_process(world):
    tasks = world.tasks
    body = tasks.after.s('body')
    body.link_error(tasks.errback.s('lost chord'))
    chord([tasks.lost.s('a'), tasks.note.s('b')], body).apply_async(tenant='acme')
    assert world.notes('lost chord') == {'lost chord': 'acme'}
