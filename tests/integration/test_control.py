"""`celery_qos.control`: every option can be read and changed at run time, and acts on what waits."""
from __future__ import annotations

from math import inf

import pytest
from celery import Celery, group
from kombu import pools

import celery_qos
from celery_qos import ConfigError, Egress, QoS, QueueFull, SubQueue, Tenant, TenantKeyError

from ..until import until
from .ledger import Ledger

GOLD_AND_FREE = [SubQueue('gold', capacity=1000, weight=3), SubQueue('free', capacity=2000, weight=1)]


def app_on(server, qos: QoS | None = None) -> Celery:
    """As in a process that has just started: Kombu keeps connections, with what they have declared."""
    pools.reset()
    app = Celery('publisher', broker=server.url('qos'), set_as_current=False)
    app.conf.broker_transport_options = {'qos': qos} if qos else {}
    return app


def publish(app: Celery, tenant='a', times: int = 1, **options) -> None:
    for _ in range(times):
        app.send_task('job', tenant=tenant, **options)


def publish_anew(app: Celery, **options) -> None:
    """Through a new connection of the same process."""
    with app.connection_for_write() as connection:
        app.send_task('job', tenant='a', connection=connection, **options)


#: A queue's own options, where the config says nothing of them.
DEFAULTS = {'max_deliveries': 5, 'max_dead_letters': 100_000}


class TestReading:
    def test_what_nobody_configured_is_the_default(self, server):
        control = celery_qos.control(app_on(server))
        assert control.tenant('a') == control.default_tenant() == Tenant().as_data()
        assert control.egress() == Egress().as_data()
        assert control.queue() == {**DEFAULTS, 'algorithm': 'wrr', 'capacity': None}
        assert control.sub_queues() == {}

    def test_the_config_once_a_process_declared_it(self, server):
        app = app_on(server, QoS('dwrr', GOLD_AND_FREE, tenants={'a': Tenant(2, rate='60/m')},
                                 default_tenant=Tenant(max_in_flight=3), egress=Egress(streams=2)))
        publish(app)
        control = celery_qos.control(app_on(server))
        assert control.queue() == {**DEFAULTS, 'algorithm': 'dwrr', 'capacity': 3000}
        assert control.egress()['streams'] == 2
        assert control.tenant('a') == {**Tenant().as_data(), 'weight': 2, 'rate': 1}
        assert control.tenant('b')['max_in_flight'] == 3
        assert control.tenant(('b', 'inside'))['max_in_flight'] is None
        assert list(control.sub_queues()) == ['gold', 'free']
        gold = control.sub_queue('gold')
        assert (gold['capacity'], gold['ingress_weight'], gold['egress_weight']) == (1000, 3, 3)
        control.set_sub_queue('gold', capacity=inf)
        assert control.queue() == {**DEFAULTS, 'algorithm': 'dwrr', 'capacity': None}


class TestPrecedence:
    """Run time, then the config of the tenant, then that of the default tenant, then the default."""

    def test_of_a_tenant(self, server):
        app = app_on(server, QoS(default_tenant=Tenant(2), tenants={'a': Tenant(3)}))
        publish(app)
        control = celery_qos.control(app)
        assert [control.tenant(key)['weight'] for key in 'ab'] == [3, 2]
        control.set_tenant('a', weight=7)
        control.set_default_tenant(weight=5)
        assert [control.tenant(key)['weight'] for key in 'ab'] == [7, 5]
        control.set_tenant('a', weight=None)
        assert control.tenant('a')['weight'] == 3

    def test_a_config_that_comes_later_does_not_undo_it(self, server):
        celery_qos.control(app_on(server)).set_tenant('a', weight=7, rate='10/s')
        app = app_on(server, QoS(tenants={'a': Tenant(3, capacity=9)}))
        publish(app)
        tenant = celery_qos.control(app).tenant('a')
        assert (tenant['weight'], tenant['rate'], tenant['capacity']) == (7, 10, 9)

    @pytest.mark.parametrize('name, value', [('capacity', 5), ('max_in_flight', 5), ('rate', 5)])
    def test_infinity_lifts_a_limit_of_the_config(self, server, name, value):
        app = app_on(server, QoS(tenants={'a': Tenant(**{name: value})}))
        publish(app)
        control = celery_qos.control(app)
        control.set_tenant('a', **{name: inf})
        assert control.tenant('a')[name] is None
        control.set_tenant('a', **{name: None})
        assert control.tenant('a')[name] == value


class TestRefused:
    @pytest.mark.parametrize('options, text', [
        ({'wieght': 2}, "did you mean 'weight'"), ({'weight': 0}, 'weight: 0 '), ({'rate': 'often'}, 'rate'),
        ({'sub_queue': 'gold'}, "sub_queue: 'gold' is unknown"), ({'on_full': 'explode'}, 'on_full'),
        ({'paused': 'yes'}, 'paused')])
    def test_options_of_a_tenant(self, server, options, text):
        control = celery_qos.control(app_on(server))
        with pytest.raises(ConfigError, match=text):
            control.set_tenant('a', **options)
        assert control.tenant('a') == Tenant().as_data()

    def test_a_tenant_that_cannot_be(self, server):
        with pytest.raises(TenantKeyError):
            celery_qos.control(app_on(server)).set_tenant('a\n', weight=2)

    def test_a_sub_queue_that_is_none(self, server):
        with pytest.raises(ConfigError, match="'silver' is unknown in queue 'celery'; it has none"):
            celery_qos.control(app_on(server)).set_sub_queue('silver', weight=2)
        with pytest.raises(ConfigError, match="'silver' is unknown in queue 'celery'; it has none"):
            celery_qos.control(app_on(server)).sub_queue('silver')

    @pytest.mark.parametrize('act, options', [('set_queue', {'algorithm': 'fifo'}), ('set_egress', {'streams': 0}),
                                              ('set_egress', {'idle_timeout': -1}), ('set_queue', {'weight': 3})])
    def test_options_of_a_queue(self, server, act, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            getattr(celery_qos.control(app_on(server)), act)(**options)


class TestContradictingConfigs:
    def test_are_refused_while_the_queue_is_at_work(self, server):
        publish(app_on(server, QoS('rr')))
        with pytest.raises(ConfigError, match=r"queue 'celery': algorithm: 'dwrr' contradicts 'rr'"):
            publish(app_on(server, QoS('dwrr')))
        assert celery_qos.control(app_on(server)).queue()['algorithm'] == 'rr'

    def test_are_accepted_where_it_is_idle(self, server):
        with app_on(server, QoS('rr')).connection() as connection:
            connection.default_channel.declare('celery')
        publish(app_on(server, QoS('dwrr')))
        assert celery_qos.control(app_on(server)).queue()['algorithm'] == 'dwrr'

    def test_configure_has_one_prevail(self, server):
        publish(app_on(server, QoS('rr')), times=3)
        new = QoS('dwrr', GOLD_AND_FREE)
        control = celery_qos.control(app_on(server))
        control.configure(new)
        assert control.queue() == {**DEFAULTS, 'algorithm': 'dwrr', 'capacity': 3000}
        publish(app_on(server, new), sub_queue='gold')
        with pytest.raises(ConfigError):
            publish(app_on(server, QoS('rr')))

    def test_what_runs_goes_on_after_configure(self, server):
        """A process that was started before may lose its connection, and make new ones."""
        ledger = Ledger(server, {'broker_transport_options': {'qos': {'algorithm': 'rr', 'lease_seconds': 2}}})
        control = celery_qos.control(ledger.app)
        with ledger.worker('prefork', 1) as worker:
            ledger.send('a')
            ledger.until('end', 1)
            control.configure(QoS('dwrr'))
            ledger.redis.client_kill_filter(_type='normal')
            worker.wait_for('Connection to broker lost')
            with ledger.app.connection_for_write() as connection:
                ledger.send('a', connection=connection)
            ledger.until('end', 2)
        assert control.queue() == {**DEFAULTS, 'algorithm': 'dwrr', 'capacity': None}

    def test_a_worker_started_with_one_says_why_it_ends(self, server):
        publish(app_on(server, QoS('rr')))
        ledger = Ledger(server, {'broker_transport_options': {'qos': {'algorithm': 'dwrr'}}})
        with ledger.worker('solo', 1, ready=False) as worker:
            worker.wait_for("'dwrr' contradicts 'rr'")
            assert worker.wait() != 0


class TestWhatIsStored:
    def test_the_last_config_that_was_started_with(self, server):
        """New connections of an older process do not bring its config back."""
        older, newer = (app_on(server, QoS(tenants={'gold': Tenant(weight=weight)})) for weight in (5, 7))
        for app in older, newer, older:
            publish_anew(app)
        assert celery_qos.control(newer).tenant('gold')['weight'] == 7

    def test_it_is_stored_again_where_redis_lost_it(self, server, redis):
        app = app_on(server, QoS(tenants={'gold': Tenant(weight=5)}))
        publish_anew(app)
        redis.flushall()
        publish_anew(app)
        assert celery_qos.control(app).tenant('gold')['weight'] == 5

    def test_nothing_of_queues_that_a_config_does_not_name(self, server):
        publish(app_on(server, QoS('rr', tenants={'gold': Tenant(weight=5)})))
        app = app_on(server)
        celery_qos.setup(app, queues={'reports': QoS(lease_seconds=60)})
        publish_anew(app)
        publish_anew(app, queue='reports')
        control = celery_qos.control(app)
        assert (control.queue()['algorithm'], control.tenant('gold')['weight']) == ('rr', 5)


def test_a_queue_that_is_full_tells_its_publisher(server):
    app = app_on(server, QoS(tenants={'a': Tenant(capacity=2)}))
    publish(app, times=2)
    with pytest.raises(QueueFull) as error:
        publish(app)
    assert (error.value.queue, error.value.tenant, error.value.capacity) == ('celery', 'a', 2)
    assert celery_qos.control(app).counters() == {('reject', ''): 1}
    celery_qos.control(app).set_tenant('a', capacity=3)
    publish(app)


def test_a_group_obeys_capacity_too(server):
    app = app_on(server, QoS(tenants={'a': Tenant(capacity=5)}))
    signature = app.signature('job')
    with pytest.raises(QueueFull):
        group([signature.clone() for _ in range(10)], app=app).apply_async(headers={'tenant': 'a'}, add_to_parent=False)
    with app.connection() as connection:
        assert connection.default_channel.store.waiting('celery') == {'a': 5}


@pytest.mark.parametrize('pool', ['solo', 'prefork'])
def test_a_paused_tenant_waits_and_the_others_do_not(server, pool):
    ledger = Ledger(server)
    control = celery_qos.control(ledger.app)
    control.set_tenant('a', paused=True)
    with ledger.worker(pool, 1):
        for tenant in 'ab':
            for _ in range(5):
                ledger.send(tenant, tenant)
        assert set(ledger.until('end', 5)) == {'b'}
        control.set_tenant('a', paused=False)
        assert sorted(ledger.until('end', 10)) == ['a'] * 5 + ['b'] * 5


def test_options_survive_a_restart_of_the_worker_and_an_idle_queue(server):
    ledger = Ledger(server)
    celery_qos.control(ledger.app).set_tenant('a', max_in_flight=1)
    for _ in range(2):
        with ledger.worker('threads', 4) as worker:
            for _ in range(4):
                ledger.send('a', seconds=0.1)
            ledger.until('end', 4)
            worker.terminate()
            worker.wait()
        events = [each['event'] for each in ledger.events]
        assert events == ['start', 'end'] * 4
        until(lambda: not ledger.stray_keys())
        ledger.server.client(db=2).flushdb()
