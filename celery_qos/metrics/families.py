"""Every metric: its name, kind, labels and what it says, stated once."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple, Optional, Union

from prometheus_client import metrics_core
from prometheus_client.utils import floatToGoString

from ..observe.waits import BOUNDS, Waits

__all__ = ('METRICS', 'PREFIX', 'Families', 'Metric')

PREFIX = 'celery_qos_'


class Metric(NamedTuple):
    #: gauge, counter or histogram.
    kind: str
    #: Ends without a full stop, as Prometheus shows it beside the name.
    help: str
    labels: tuple[str, ...] = ()


_QUEUE = ('queue',)
_SUB_QUEUE = ('queue', 'sub_queue')
_TENANT = ('queue', 'sub_queue', 'tenant', 'kind')

#: Name, without `PREFIX` and without ``_total``, to what it is. In this order they are exposed.
METRICS: dict[str, Metric] = {
    'up': Metric('gauge', '1 if everything below could be read from Redis just now, else 0'),
    'scrape_duration_seconds': Metric('gauge', 'How long this scrape took'),
    'redis_memory_used_bytes': Metric('gauge', 'Memory that Redis uses, of all that is in it'),
    'redis_memory_max_bytes': Metric('gauge', "Redis' maxmemory; 0 where there is no limit"),

    'queue_info': Metric('gauge', 'Always 1; the label says by which algorithm turns go', ('queue', 'algorithm')),
    'slots': Metric('gauge', 'Places in egress that the workers bring', _QUEUE),
    'egress_tasks': Metric('gauge', 'Tasks in egress: delivered or about to be', _QUEUE),
    'idle_slots': Metric('gauge', 'Slots that are free although a task waits that may be served; must be 0', _QUEUE),
    'workers': Metric('gauge', 'Consumers with a lease', _QUEUE),
    'ended_leases': Metric('gauge', 'Consumers whose lease has ended, and nobody has taken their tasks back', _QUEUE),
    'unsettled_tasks': Metric('gauge', 'Tasks that workers were delivered and have not acknowledged', _QUEUE),
    'waiting_tasks': Metric('gauge', "Tasks in tenants' streams", _SUB_QUEUE),
    'waiting_tenants': Metric('gauge', 'Tenants with waiting tasks', _QUEUE),
    'parked_tenants': Metric(
        'gauge', 'Of these, and of the sub-queues, those that a pause, a cap or a rate holds back', _QUEUE),
    'delayed_tasks': Metric('gauge', 'Tasks that wait for their time', _QUEUE),
    'delayed_overdue_seconds': Metric('gauge', 'For how long the first delayed task has been due', _QUEUE),
    'dead_tasks': Metric('gauge', 'Dead letters that are kept now', _QUEUE),

    'sub_queue_in_flight_tasks': Metric('gauge', 'Tasks delivered or running, where they are counted', _SUB_QUEUE),
    'sub_queue_capacity_tasks': Metric('gauge', 'How many tasks may wait', _SUB_QUEUE),
    'sub_queue_weight': Metric('gauge', 'Its share of the slots, against those of the other sub-queues', _SUB_QUEUE),
    'sub_queue_paused': Metric('gauge', '1 while it is paused, else 0', _SUB_QUEUE),

    'wait_seconds': Metric(
        'histogram', 'How long tasks waited, from when they were published or due until a worker was given them',
        _SUB_QUEUE),
    'deliveries': Metric('counter', 'Tasks that workers were given, those of wait_seconds', _SUB_QUEUE),
    'redeliveries': Metric(
        'counter', 'Tasks that went back into egress: their worker died, stopped or lost its connection', _SUB_QUEUE),
    'recoveries': Metric('counter', 'Leases that ended, of workers that died or fell silent', _QUEUE),
    'dead_letters': Metric('counter', 'Tasks that became dead letters', (*_SUB_QUEUE, 'reason')),
    'throttles': Metric(
        'counter', 'Times that a pause, a cap or a rate held a tenant or a sub-queue back', _SUB_QUEUE),
    'refused': Metric('counter', 'Tasks that found no room, by what was done', (*_SUB_QUEUE, 'on_full')),
    'expired': Metric('counter', 'Tasks that expired before they were delivered', _SUB_QUEUE),
    'revoked': Metric('counter', 'Delayed tasks that were revoked', _SUB_QUEUE),

    'oldest_wait_seconds': Metric(
        'gauge', 'How long the oldest task has waited, of tenants that are not paused', _QUEUE),
    'tenants_age_seconds': Metric('gauge', 'How long ago the tenants were looked at'),
    'tenant_waiting_tasks': Metric('gauge', 'Waiting tasks of the tenant', _TENANT),
    'tenant_in_flight_tasks': Metric(
        'gauge', 'Tasks of the tenant in egress; until they end where they are counted', _TENANT),
    'tenant_share_ratio': Metric('gauge', "Its part of the queue's deliveries of the last minutes", _TENANT),
    'tenant_entitlement_ratio': Metric(
        'gauge', 'The part that its weight gives it among those that wait now', _TENANT),
    'tenant_weight': Metric('gauge', 'Its weight', _TENANT),
    'tenant_paused': Metric('gauge', '1 while it is paused, else 0', _TENANT),
    'tenant_oldest_wait_seconds': Metric('gauge', 'How long its oldest waiting task has waited', _TENANT),
    'tenant_wait_quantile_seconds': Metric(
        'gauge', 'This part of its tasks of the last minutes waited at most so long', (*_TENANT, 'quantile')),
}

#: Upper bounds as labels; one more bucket has the rest.
_BOUNDS = (*map(floatToGoString, BOUNDS), '+Inf')
_Family = Union[metrics_core.GaugeMetricFamily, metrics_core.CounterMetricFamily, metrics_core.HistogramMetricFamily]
_FAMILIES: dict[str, type[_Family]] = {
    'gauge': metrics_core.GaugeMetricFamily, 'counter': metrics_core.CounterMetricFamily,
    'histogram': metrics_core.HistogramMetricFamily}


class Families:
    """The samples of one scrape."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {
            name: _FAMILIES[metric.kind](PREFIX + name, metric.help, labels=metric.labels)
            for name, metric in METRICS.items()}

    def __iter__(self) -> Iterator[_Family]:
        return iter(self._families.values())

    def add(self, name: str, value: Optional[float], *labels: str) -> None:
        """One sample; nothing where the value is not known."""
        if value is not None:
            family: Any = self._families[name]
            family.add_metric([*map(printed, labels)], float(value))

    def add_waits(self, name: str, waits: Waits, *labels: str) -> None:
        """The buckets, the sum and the count of a histogram."""
        family = self._families[name]
        assert isinstance(family, metrics_core.HistogramMetricFamily)
        family.add_metric([*map(printed, labels)], list(zip(_BOUNDS, accumulate(waits.counts))), waits.total)


def printed(label: str) -> str:
    """As UTF-8 can have it: keys that were written by hand may be any bytes."""
    return label.encode(errors='replace').decode()
