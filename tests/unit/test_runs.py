"""What the server is told of a tracked task, in whatever order its ack and its end come."""
from __future__ import annotations

import gc
from itertools import permutations
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_qos.codec import tracked
from celery_qos.store import Delivery, Tracked
from celery_qos.worker import settler as settler_module
from celery_qos.worker.runs import Run, watch
from celery_qos.worker.settler import Settler

TASK = Tracked('1-0', 'gold', 'acme', '0.5')


class Told:
    """In the place of a store: notes what it is told, unless it is down."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.down = False

    def __getattr__(self, name):
        def note(queue, *args):
            if self.down:
                raise RedisConnectionError
            self.calls.append((name, queue, *args))
        return note


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def settler(told):
    return Settler(told)


@pytest.fixture
def run(settler):
    return Run('celery', 'me', TASK, settler)


def started():
    return 'started', 'celery', 'me', [TASK]


def finished(seconds=None):
    return 'finished', 'celery', 'me', [TASK._replace(seconds=seconds)]


def test_an_ack_before_the_end_is_a_start(run, settler, told):
    run.hand_over()
    run.settle()
    settler.flush()
    assert told.calls == [started()]
    assert run.end(2.5)
    settler.flush()
    assert told.calls == [started(), finished(2.5)]


def test_an_end_before_the_ack_waits_for_it(run, settler, told):
    run.hand_over()
    assert not run.end(2.5)
    settler.flush()
    assert told.calls == []
    run.settle()
    settler.flush()
    assert told.calls == [finished(2.5)]


def test_a_start_is_not_told_together_with_the_end(run, settler, told):
    other = Run('celery', 'me', TASK._replace(entry_id='2-0'), settler)
    for each in run, other:
        each.hand_over()
        each.settle()
    run.end(1.0)
    settler.flush()
    assert sorted(told.calls) == [finished(1.0), ('started', 'celery', 'me', [TASK._replace(entry_id='2-0')])]


def test_what_could_not_be_told_is_told_later_and_only_the_end(run, settler, told, monkeypatch):
    monkeypatch.setattr(settler_module, 'RETRY_INTERVAL', 0)
    told.down = True
    run.hand_over()
    run.settle()
    settler.flush()
    assert settler.unsent == [('celery', '1-0')]
    run.end(1.0)
    settler.flush()
    told.down = False
    settler.flush()
    assert told.calls == [finished(1.0)]
    assert settler.unsent == []


def test_only_the_first_end_counts(run, settler, told):
    run.hand_over()
    run.settle()
    assert run.end(1.0)
    assert not run.end(9.0)
    settler.flush()
    assert told.calls == [finished(1.0)]


@pytest.mark.parametrize('skipped, seconds', [(True, 0.0), (False, None)])
def test_what_no_pool_was_handed_is_finished_with_its_ack(run, settler, told, skipped, seconds):
    run.settle(skipped)
    settler.flush()
    assert told.calls == [finished(seconds)]


class Pool:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.options: dict = {}

    def apply_async(self, target, args=None, kwargs=None, **options):
        self.options = options
        return target


class Request:
    def __init__(self, tag='celery/1-0') -> None:
        self.message = SimpleNamespace(delivery_tag=tag)
        self.heard: list = []

    def on_accepted(self, pid, time_accepted):
        self.heard.append('accepted')

    def on_success(self, result, **kwargs):
        self.heard.append(result)

    def on_failure(self, info):
        self.heard.append(info)

    def on_timeout(self, soft, timeout):
        self.heard.append((soft, timeout))

    @property
    def callbacks(self):
        return {'accept_callback': self.on_accepted, 'callback': self.on_success, 'error_callback': self.on_failure,
                'timeout_callback': self.on_timeout}


@pytest.fixture
def pool(run):
    pool = Pool()
    pool.sent = 0

    def send():
        pool.sent += 1

    watch(pool, lambda: {'celery/1-0': run}, send)
    return pool


def test_every_callback_is_passed_on_and_the_first_end_reported(pool, run, settler, told):
    request = Request()
    assert pool.apply_async('target', correlation_id='x', **request.callbacks) == 'target'
    assert pool.options['correlation_id'] == 'x'
    pool.options['accept_callback'](1, 0.0)
    run.settle()
    pool.options['timeout_callback'](soft=True, timeout=3)
    assert pool.sent == 0
    pool.options['error_callback']('lost')
    pool.options['timeout_callback'](False, 5)
    assert request.heard == ['accepted', (True, 3), 'lost', (False, 5)]
    assert pool.sent == 1
    settler.flush()
    [(_, _, _, [task])] = told.calls
    assert 0 <= task.seconds < 1


@pytest.mark.parametrize('result, seconds', [((0, 'value', 1.5), 1.5), ((False, None, None), None), ('einfo', None)])
def test_the_run_time_is_the_tracers_where_it_tells(pool, run, settler, told, result, seconds):
    request = Request()
    pool.apply_async('target', **request.callbacks)
    pool.options['callback'](result)
    run.settle()
    settler.flush()
    assert request.heard == [result]
    assert told.calls == [finished(seconds)]


def test_a_task_that_the_pool_drops_has_ended(pool, run, settler, told):
    pool.apply_async('target', **Request().callbacks)
    pool.options['accept_callback'](1, 0.0)
    run.settle()
    pool.options = {}
    gc.collect()
    settler.flush()
    assert told.calls[0][0] == 'finished'


@pytest.mark.parametrize('callbacks', [Request('celery/2-0').callbacks, {}, {'accept_callback': print}])
def test_other_tasks_are_handed_over_as_they_are(pool, callbacks):
    pool.apply_async('target', **callbacks)
    assert pool.options == callbacks


@pytest.mark.parametrize('order', list(permutations(['settle', 'end', 'drop'])), ids=','.join)
def test_each_order_tells_of_one_end(pool, run, settler, told, order):
    pool.apply_async('target', **Request().callbacks)
    pool.options['accept_callback'](1, 0.0)
    for step in order:
        if step == 'settle':
            run.settle()
        elif step == 'end' and pool.options:
            pool.options['callback']((0, 'value', 1.0))
        else:
            pool.options = {}
            gc.collect()
        settler.flush()
    assert [call[0] for call in told.calls].count('finished') == 1
    assert told.calls[-1][0] == 'finished'


def test_an_entry_says_whether_it_is_tracked():
    fields = {b'tenant': b'acme\x1falice', b'sub': b'gold', b'tracked': b'0.5'}
    assert tracked(Delivery('celery', '1:2-0', fields)) == Tracked('1:2-0', 'gold', 'acme\x1falice', '0.5', None)
    assert tracked(Delivery('celery', '2-0', {b'tracked': b'1'})) == Tracked('2-0', '', '', '1', None)
    assert tracked(Delivery('celery', '2-0', {b'tenant': b'acme'})) is None
