"""``qos set``: the options of tenants, sub-queues, the queue and its egress, at run time."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

import click
from click_didyoumean import DYMGroup

from ..config import Egress, QoS, SubQueue, Tenant
from ..options import Options
from ..overrides import parsed
from .session import Failure, Session, session_command
from .table import Column
from .tenant import Key, tenant_argument
from .text import clean, limit_text, number_text, tenant_text

__all__ = ('command',)

_COLUMNS = (Column('option'), Column('in force', width=10), Column('from'))
_OPTIONS = click.argument('options', metavar='[NAME=VALUE]...', nargs=-1)


@click.group(name='set', cls=DYMGroup, short_help='Show and change options at run time.')
def command() -> None:
    """Change options at run time, or show them. They are kept in Redis, win over the config, and act on what waits.

    Each command shows what is in force, after it has set what is given as NAME=VALUE; without any, it only shows.
    The values  none  and  default  forget what was set: again the config says. The value  unlimited  lifts a
    capacity, a max_in_flight or a rate.

    \b
    Example:
        celery -A proj qos set tenant acme weight=3 rate=100/m
        celery -A proj qos set tenant acme rate=none
        celery -A proj qos set queue algorithm=dwrr
    """


@session_command(name='tenant', known_queue=True, short_help='Of one tenant: weight, limits, paused.')
@tenant_argument
@_OPTIONS
def tenant(session: Session, tenant: Key, options: tuple[str, ...]) -> None:
    """Weight, capacity, max_in_flight, burst, rate, paused, on_full and sub_queue of one tenant.

    \b
    Example:
        celery -A proj qos set tenant acme weight=3 rate=100/m
        celery -A proj qos set tenant alice --inside acme max_in_flight=2
    """
    names = session.control.sub_queues(session.queue)
    session.control.tenant(tenant, session.queue)     # a bad key is said before a bad value
    _set(session, Tenant, options, 'tenant', tenant, f'tenant {tenant_text(tenant)}', names,
         lambda values: session.control.set_tenant(tenant, session.queue, **values),
         lambda: session.control.tenant(tenant, session.queue))


@session_command(name='default-tenant', known_queue=True, short_help='Of tenants without options of their own.')
@_OPTIONS
def default_tenant(session: Session, options: tuple[str, ...]) -> None:
    """The same options for all tenants that have none of their own.

    \b
    Example:
        celery -A proj qos set default-tenant max_in_flight=10 capacity=100000
    """
    _set(session, Tenant, options, 'default_tenant', None, 'default tenant', session.control.sub_queues(session.queue),
         lambda values: session.control.set_default_tenant(session.queue, **values),
         lambda: session.control.default_tenant(session.queue))


@session_command(name='sub-queue', known_queue=True, short_help='Of one sub-queue: capacity, weights, limits.')
@click.argument('name')
@_OPTIONS
def sub_queue(session: Session, name: str, options: tuple[str, ...]) -> None:
    """Capacity, weights, algorithm, max_in_flight, burst, rate, paused and on_full of one sub-queue.

    \b
    Example:
        celery -A proj qos set sub-queue gold capacity=5000 weight=4
    """
    session.control.sub_queue(name, session.queue)
    _set(session, SubQueue, options, 'sub_queue', name, f'sub-queue {clean(name)}', (),
         lambda values: session.control.set_sub_queue(name, session.queue, **values),
         lambda: session.control.sub_queue(name, session.queue))


@session_command(name='queue', known_queue=True, short_help='Of the queue: its algorithm.')
@_OPTIONS
def queue(session: Session, options: tuple[str, ...]) -> None:
    """Algorithm, max_deliveries and max_dead_letters of the queue.

    \b
    Example:
        celery -A proj qos set queue algorithm=dwrr
    """
    _set(session, QoS, options, 'queue', None, '', (),
         lambda values: session.control.set_queue(session.queue, **values),
         lambda: session.control.queue(session.queue))


@session_command(name='egress', known_queue=True, short_help='Of the stream that workers read.')
@_OPTIONS
def egress(session: Session, options: tuple[str, ...]) -> None:
    """Capacity and streams of egress, and the loops that sweep it.

    \b
    Example:
        celery -A proj qos set egress capacity=200
    """
    _set(session, Egress, options, 'egress', None, 'egress', (),
         lambda values: session.control.set_egress(session.queue, **values),
         lambda: session.control.egress(session.queue))


for _each in tenant, default_tenant, sub_queue, queue, egress:
    command.add_command(_each)


def _set(session: Session, kind: type[Options], words: tuple[str, ...], of: str, name: Any, title: str,
         sub_queues: Any, write: Callable[[dict[str, Any]], None], read: Callable[[], Mapping[str, Any]]) -> None:
    values = parsed(kind, _pairs(words), sub_queues)
    if values:
        write(values)
    in_force = read()
    set_here = session.control.set_at_run_time(of, name, session.queue)
    data = {'queue': session.queue_name, 'of': of, 'name': name, 'options': in_force,
            'set_at_run_time': sorted(set_here)}

    def show() -> None:
        queue = f'queue {clean(session.queue_name)}'
        session.say(f'{title}, {queue}' if title else queue)
        session.emit_rows(in_force.items(), _COLUMNS, lambda pair: (
            pair[0], _value_text(*pair), 'run time' if pair[0] in set_here else 'config or default'))

    session.emit(data, show)


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not equals:
            raise Failure(f'{word!r} is not NAME=VALUE, such as weight=3')
        if name in found:
            raise Failure(f'{name}: is given twice')
        found[name] = value
    return found


def _value_text(name: str, value: Optional[Any]) -> str:
    if value is None:
        return 'unlimited' if name in ('capacity', 'max_in_flight', 'rate') else 'none'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if name == 'rate':
        return limit_text(value)
    return number_text(value) if isinstance(value, (int, float)) else clean(value)
