"""What `celery_qos.control(app)` says and does, as commands of Celery's remote control: ``celery inspect qos_status``.

They run in a worker's event loop, so each ends within `BUDGET` seconds, or says that it did not; what a change
leaves over is for the sweep.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import wraps
from time import monotonic
from typing import Any, Optional, Union

from celery.worker.control import control_command, inspect_command

from ..app import Control, control
from ..config import Egress, QoS, SubQueue, Tenant
from ..errors import ConfigError, QoSError
from ..observe import TenantStatus
from ..options import Options as Kind
from ..overrides import parsed

__all__ = ('BUDGET', 'MOST_TENANTS')

#: Seconds for which a command may keep the event loop.
BUDGET = 0.5
#: Tenants that one reply names, and queues of which it tells.
MOST_TENANTS, MOST_QUEUES = 100, 20
Options = Union[Mapping[str, Any], Iterable[str]]


class _OutOfTime(QoSError):
    """There is more than can be looked at while the worker waits."""


def _answering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that have a remedy are an answer; others Celery logs, and tells by their repr."""
    @wraps(command)
    def answer(state: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return command(state, *args, **kwargs)
        except QoSError as exc:
            return {'error': str(exc)}
    return answer


def _within_budget(program: str) -> Callable[[int, int], None]:
    until = monotonic() + BUDGET

    def progress(looked: int, of: int) -> None:
        if monotonic() > until:
            raise _OutOfTime(f'{looked} of {of} were looked at in {BUDGET:g} s, for which a worker may be kept; '
                             f'ask with:  {program}')
    return progress


@inspect_command(args=[('queue', str)], signature='[queue]')
@_answering
def qos_status(state: Any, queue: Optional[str] = None) -> dict[str, Any]:
    """Queues at a glance, by default those of the worker: slots, egress, waiting, delayed and dead tasks, workers."""
    consumer = getattr(state.consumer, 'task_consumer', None)
    names = [queue] if queue else [each.name for each in getattr(consumer, 'queues', ())]
    return {name: asdict(control(state.app).status(name)) for name in names[:MOST_QUEUES]}


@inspect_command(args=[('top', int), ('sort', str), ('queue', str), ('match', str)],
                 signature='[top=20 [sort=waiting [queue [match]]]]')
@_answering
def qos_tenants(state: Any, top: int = 20, sort: str = 'waiting', queue: Optional[str] = None,
                match: str = '') -> Any:
    """The first tenants by waiting, in_flight, wait, p50, p95, p99, rate, share or tenant; match is a glob."""
    top = max(1, min(int(top), MOST_TENANTS))
    found = control(state.app).tenants(queue, sort, top, match, _within_budget('celery qos tenants'))
    return [_tenant(each) for each in found]


def _tenant(status: TenantStatus) -> dict[str, Any]:
    return {**asdict(status), **{name: getattr(status, name) for name in ('rate', 'p50', 'p95', 'p99')}}


@inspect_command(args=[('subject', str), ('queue', str), ('kind', str)], signature='<task id or tenant> [queue [kind]]')
@_answering
def qos_why(state: Any, subject: Any, queue: Optional[str] = None, kind: Optional[str] = None) -> dict[str, Any]:
    """Why a task or a tenant waits, or what became of it; kind is task or tenant, where both have the name."""
    return asdict(control(state.app).why(subject, queue, kind, _within_budget('celery qos why'), timeout=0))


@inspect_command(args=[('of', str), ('name', str), ('queue', str)],
                 signature='<queue|egress|default|tenant|sub-queue> [name [queue]]')
@_answering
def qos_options(state: Any, of: str, name: Any = '', queue: Optional[str] = None) -> dict[str, Any]:
    """The options in force of the queue, of egress, of a tenant or of a sub-queue."""
    return _of(control(state.app), of, name, queue)[0]()


@control_command(args=[('of', str), ('name', str)], variadic='options',
                 signature='<queue|egress|default|tenant|sub-queue> <name or -> [option=value]...')
@_answering
def qos_set(state: Any, of: str, name: Any = '', options: Options = (), queue: Optional[str] = None) -> dict[str, Any]:
    """Set options at run time, such as weight=3 rate=100/m; none: as the config says, unlimited: no limit."""
    read, write, kind = _of(Control(state.app, BUDGET), of, name, queue)
    values = options if isinstance(options, Mapping) else parsed(kind, dict(map(_pair, options)))
    write(**values)
    return {'ok': f'{of} {name}: {", ".join(f"{key}={value}" for key, value in values.items())}', 'options': read()}


@control_command(args=[('tenant', str), ('queue', str)], signature='<tenant> [queue]')
@_answering
def qos_pause(state: Any, tenant: Any, queue: Optional[str] = None) -> dict[str, str]:
    """Keep the tenant's waiting tasks from being served."""
    Control(state.app, BUDGET).set_tenant(tenant, queue, paused=True)
    return {'ok': f'tenant {tenant!r} is paused'}


@control_command(args=[('tenant', str), ('queue', str)], signature='<tenant> [queue]')
@_answering
def qos_resume(state: Any, tenant: Any, queue: Optional[str] = None) -> dict[str, str]:
    """Have the tenant's tasks served again."""
    Control(state.app, BUDGET).set_tenant(tenant, queue, paused=False)
    return {'ok': f'tenant {tenant!r} is served again'}


def _of(by: Control, of: str, name: Any, queue: Optional[str]) -> tuple[
        Callable[[], dict], Callable[..., None], type[Kind]]:
    """What reads these options, what sets them, and what they are of."""
    if of == 'queue':
        return (lambda: by.queue(queue)), (lambda **options: by.set_queue(queue, **options)), QoS
    if of == 'egress':
        return (lambda: by.egress(queue)), (lambda **options: by.set_egress(queue, **options)), Egress
    if of == 'default':
        return (lambda: by.default_tenant(queue)), (lambda **options: by.set_default_tenant(queue, **options)), Tenant
    if of == 'tenant':
        return (lambda: by.tenant(name, queue)), (lambda **options: by.set_tenant(name, queue, **options)), Tenant
    if of == 'sub-queue':
        return (lambda: by.sub_queue(name, queue)), (
            lambda **options: by.set_sub_queue(name, queue, **options)), SubQueue
    raise ConfigError(f'{of!r} has no options; one of queue, egress, default, tenant, sub-queue')


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals:
        raise ConfigError(f'{text!r} is not option=value')
    return name, value
