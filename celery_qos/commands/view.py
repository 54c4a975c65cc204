"""What `qos status`, `qos tenants` and `qos top` show, to people and as data."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Optional

from ..observe import QueueStatus, TenantStatus, Waits
from .table import Column, lines
from .text import NOTHING, clean, number_text, percent_text, rate_text, seconds_text, tasks_text, tenant_text

__all__ = ('TENANT_COLUMNS', 'tenant_row', 'tenant_data', 'status_lines', 'status_data', 'headline')

TENANT_COLUMNS = (
    Column('tenant', width=16), Column('sub-queue'), Column('waiting', right=True, width=9),
    Column('in flight', right=True), Column('oldest', right=True, width=7), Column('p50', right=True, width=7),
    Column('p95', right=True, width=7), Column('p99', right=True, width=7), Column('rate', right=True, width=7),
    Column('share', right=True, width=6), Column('entitled', right=True), Column('weight', right=True), Column(''))
_WORKERS = (Column('  worker'), Column('slots', right=True), Column('delivered', right=True),
            Column('lease', right=True))
_SUB_QUEUES = (Column('  sub-queue'), Column('waiting', right=True), Column('capacity', right=True),
               Column('in flight', right=True), Column('weight', right=True), Column('algorithm'), Column(''))


def tenant_row(tenant: TenantStatus) -> tuple[str, ...]:
    return (tenant_text(tenant.tenant), clean(tenant.sub_queue) or NOTHING, number_text(tenant.waiting),
            number_text(tenant.in_flight), seconds_text(tenant.wait), seconds_text(tenant.p50),
            seconds_text(tenant.p95), seconds_text(tenant.p99), rate_text(tenant.rate), percent_text(tenant.share),
            percent_text(tenant.entitlement), number_text(tenant.weight), 'paused' if tenant.paused else '')


def tenant_data(tenant: TenantStatus) -> dict[str, Any]:
    return {**asdict(tenant), 'waits': _waits_data(tenant.waits)}


def headline(status: QueueStatus) -> str:
    idle = f', {status.idle_slots:,} idle though tasks wait' if status.idle_slots else ''
    slots = '1 slot' if status.slots == 1 else f'{status.slots:,} slots'
    return f'queue {clean(status.queue)}: {clean(status.algorithm)}, {slots}, {status.egress:,} in egress{idle}'


def status_lines(status: QueueStatus) -> Iterator[str]:
    yield headline(status)
    held = f'; {_held_text(status)} held back by a pause, a cap or a rate' if status.parked else ''
    yield f'  waiting     {tasks_text(status.waiting)} of {_tenants_text(status.tenants)}{held}'
    yield f'  delayed     {status.delayed:,}'
    yield f'  dead        {status.dead:,}'
    waits = status.waits
    if waits.count:
        yield (f'  waits       p50 {seconds_text(waits.quantile(0.5))}, p95 {seconds_text(waits.quantile(0.95))}, '
               f'p99 {seconds_text(waits.quantile(0.99))}; {rate_text(waits.rate)}, {waits.count:,} in the last '
               f'{seconds_text(waits.seconds)}')
    else:
        yield '  waits       no task was delivered lately'
    counts = ', '.join(f'{count:,} {clean(name)}' for name, count in sorted(status.counts.items()) if count)
    if counts:
        yield f'  so far      {counts}'
    if status.workers:
        yield from lines(_WORKERS, [(f'  {clean(each.name)}', number_text(each.slots), number_text(each.delivered),
                                     seconds_text(each.lease) if each.lease > 0 else 'ended')
                                    for each in status.workers])
    else:
        yield '  workers     none'
    if status.sub_queues:
        yield from lines(_SUB_QUEUES, [
            (f'  {clean(each.name)}', number_text(each.waiting), number_text(each.capacity),
             number_text(each.in_flight), number_text(each.weight), clean(each.algorithm),
             'paused' if each.paused else '') for each in status.sub_queues])


def _held_text(status: QueueStatus) -> str:
    if not status.sub_queues:
        return _tenants_text(status.parked)
    return '1 tenant or sub-queue' if status.parked == 1 else f'{status.parked:,} tenants and sub-queues'


def _tenants_text(count: int) -> str:
    return '1 tenant' if count == 1 else f'{count:,} tenants'


def status_data(status: QueueStatus) -> dict[str, Any]:
    return {**asdict(status), 'waits': _waits_data(status.waits)}


def _waits_data(waits: Waits) -> dict[str, Optional[float]]:
    return {'count': waits.count, 'seconds': waits.seconds, 'rate': waits.rate, 'total': waits.total,
            **{f'p{round(100 * q)}': waits.quantile(q) for q in (0.5, 0.95, 0.99)}}
