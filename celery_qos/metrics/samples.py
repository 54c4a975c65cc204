"""What was read of a queue, as samples."""
from __future__ import annotations

from collections import Counter
from typing import Optional

from ..observe.counts import DEAD, REFUSED
from ..observe.status import QueueStatus
from ..observe.tenants import TenantStatus
from .families import Families, printed
from .reading import QueueReading, TenantsReading

__all__ = ('add_queue', 'add_tenants', 'TENANT', 'OTHER')

#: Values of the label `kind`: one tenant, or all those together that have no sample of their own. Thereby a tenant may
#: be called ``other`` too.
TENANT, OTHER = 'tenant', 'other'
#: What is counted to the name of the metric.
_COUNTERS = {'redelivered': 'redeliveries', 'throttled': 'throttles', 'expired': 'expired', 'revoked': 'revoked'}
_QUANTILES = (0.5, 0.95, 0.99)


def add_queue(families: Families, reading: QueueReading) -> None:
    status, add = reading.status, families.add
    queue, leased = status.queue, sum(1 for worker in status.workers if worker.lease > 0)
    add('queue_info', 1, queue, status.algorithm)
    add('slots', status.slots, queue)
    add('egress_tasks', status.egress, queue)
    add('idle_slots', status.idle_slots, queue)
    add('workers', leased, queue)
    add('ended_leases', len(status.workers) - leased, queue)
    add('unsettled_tasks', sum(worker.delivered for worker in status.workers), queue)
    add('waiting_tenants', status.tenants, queue)
    add('parked_tenants', status.parked, queue)
    add('delayed_tasks', status.delayed, queue)
    add('delayed_overdue_seconds', reading.overdue, queue)
    add('dead_tasks', status.dead, queue)
    for name, waiting in _waiting(status).items():
        add('waiting_tasks', waiting, queue, name)
    for sub_queue in status.sub_queues:
        add('sub_queue_in_flight_tasks', sub_queue.in_flight, queue, sub_queue.name)
        add('sub_queue_capacity_tasks', sub_queue.capacity, queue, sub_queue.name)
        add('sub_queue_weight', sub_queue.weight, queue, sub_queue.name)
        add('sub_queue_paused', sub_queue.paused, queue, sub_queue.name)
    _add_waits(families, reading)
    _add_counts(families, reading)


def _waiting(status: QueueStatus) -> dict[str, int]:
    """Sub-queue to waiting tasks; '' has those that are in none."""
    waiting = {sub_queue.name: sub_queue.waiting for sub_queue in status.sub_queues}
    rest = max(0, status.waiting - sum(waiting.values()))
    return waiting if waiting and not rest else {'': rest, **waiting}


def _add_waits(families: Families, reading: QueueReading) -> None:
    for name, waits in reading.waits.items():
        # What is known of the whole queue has that of its sub-queues in it, and must not be counted twice.
        if name or len(reading.waits) == 1:
            families.add_waits('wait_seconds', waits, reading.status.queue, name)
            families.add('deliveries', waits.count, reading.status.queue, name)


def _add_counts(families: Families, reading: QueueReading) -> None:
    queue = reading.status.queue
    for (what, sub_queue), count in reading.counts.items():
        if what in DEAD:
            families.add('dead_letters', count, queue, sub_queue, what.removeprefix('dead-'))
        elif what in REFUSED:
            families.add('refused', count, queue, sub_queue, what)
        elif what in _COUNTERS:
            families.add(_COUNTERS[what], count, queue, sub_queue)
        elif not sub_queue:     # a lease is no sub-queue's
            families.add('recoveries', count, queue)


def add_tenants(families: Families, reading: TenantsReading) -> None:
    """A sample of each tenant, and one of the others of its sub-queue."""
    status, shares = reading.status, 1.0
    shown: dict[tuple[str, str], TenantStatus] = {}
    for tenant in reading.tenants:
        # A tuple's keys may read like another tenant's one key: then it is one of the others.
        shown.setdefault((tenant.sub_queue, _label_of(tenant)), tenant)
    places = {(tenant.sub_queue, _keys_of(tenant)) for tenant in shown.values()}
    waiting, in_flight = Counter(_waiting(status)), _in_flight(status)
    for (sub_queue, name), tenant in shown.items():
        _add_tenant(families, status.queue, tenant, name)
        shares -= tenant.share or 0.0
        path = _keys_of(tenant)
        # What is inside another tenant is counted there too.
        if not any((sub_queue, path[:depth]) in places for depth in range(1, len(path))):
            waiting[sub_queue] -= tenant.waiting
            in_flight[sub_queue] = _less(in_flight.get(sub_queue), tenant.in_flight)
    for sub_queue in waiting:
        labels = status.queue, sub_queue, OTHER, OTHER
        families.add('tenant_waiting_tasks', max(0, waiting[sub_queue]), *labels)
        families.add('tenant_in_flight_tasks', in_flight.get(sub_queue), *labels)
    if reading.oldest is not None:
        families.add('oldest_wait_seconds', reading.oldest, status.queue)
    if status.waits.count and not status.sub_queues:
        families.add('tenant_share_ratio', max(0.0, shares), status.queue, '', OTHER, OTHER)


def _keys_of(tenant: TenantStatus) -> tuple[str, ...]:
    return tenant.tenant if isinstance(tenant.tenant, tuple) else (tenant.tenant,)


def _label_of(tenant: TenantStatus) -> str:
    """Its key; the keys of a tuple joined by ``/``."""
    return printed('/'.join(_keys_of(tenant)))


def _add_tenant(families: Families, queue: str, tenant: TenantStatus, name: str) -> None:
    labels = queue, tenant.sub_queue, name, TENANT
    families.add('tenant_waiting_tasks', tenant.waiting, *labels)
    families.add('tenant_in_flight_tasks', tenant.in_flight, *labels)
    families.add('tenant_share_ratio', tenant.share, *labels)
    families.add('tenant_entitlement_ratio', tenant.entitlement, *labels)
    families.add('tenant_weight', tenant.weight, *labels)
    families.add('tenant_paused', tenant.paused, *labels)
    families.add('tenant_oldest_wait_seconds', tenant.wait if tenant.waiting else 0.0, *labels)
    for q in _QUANTILES:
        families.add('tenant_wait_quantile_seconds', tenant.waits.quantile(q), *labels, f'{q:g}')


def _in_flight(status: QueueStatus) -> dict[str, Optional[int]]:
    """Sub-queue to tasks in flight; None where they are not counted by sub-queue."""
    if not status.sub_queues:
        return {'': status.egress}
    return {sub_queue.name: sub_queue.in_flight for sub_queue in status.sub_queues}


def _less(count: Optional[int], by: int) -> Optional[int]:
    """Acknowledged early, running tasks are in flight and not in egress."""
    return None if count is None else max(0, count - by)
