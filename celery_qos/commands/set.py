"""``qos set``: the options of tenants, sub-queues, the queue and its egress, at run time."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import nsmallest
from itertools import groupby
from operator import itemgetter
from typing import Any, Optional

import click
from click_didyoumean import DYMGroup

from ..config import Egress, QoS, SubQueue, Tenant
from ..options import Options
from ..overrides import parsed
from .listing import limit_options, say_more
from .session import NOT_FOUND, Failure, Session, session_command
from .table import Column
from .tenant import Key, tenant_argument
from .text import NOTHING, clean, limit_text, number_text, tenant_text

__all__ = ('command',)

_COLUMNS = (Column('option'), Column('in force', width=10), Column('from'))
_OPTIONS = click.argument('options', metavar='[NAME=VALUE]...', nargs=-1)


_TITLES = {'queue': 'queue', 'egress': 'egress', 'default_tenant': 'default-tenant', 'sub_queue': 'sub-queue',
           'tenant': 'tenant'}
_LIST_COLUMNS = (Column('of', width=14), Column('name', width=16), Column('set at run time'))


class _Group(DYMGroup):
    """Takes ``--list`` for ``list``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if '--list' in args and not any(each in self.commands for each in args):
            args = ['list', *(each for each in args if each != '--list')]
        return super().parse_args(ctx, args)


@click.group(name='set', cls=_Group, short_help='Show and change options at run time.')
@click.option('--list', is_flag=True, expose_value=False, help='The same as list.')
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
        celery -A proj qos set --list
    """


@session_command(name='list', known_queue=True, short_help='All that was set at run time.')
@limit_options
def list_(session: Session, top: int, everything: bool) -> int:
    """What was set at run time, of the queue, its egress, sub-queues and tenants. Exit code 1: nothing was.

    \b
    Example:
        celery -A proj qos set list
        celery -A proj qos set tenant acme paused=none
    """
    found = session.control.all_set_at_run_time(session.queue)
    kept = sorted(found, key=_order) if everything else nsmallest(top + 1, found, key=_order)
    # The same may have come twice.
    unique = [next(each) for _, each in groupby(kept, itemgetter(0, 1))]
    listed = unique if everything else unique[:top]
    session.emit_rows(listed, _LIST_COLUMNS, _list_row, lambda each: dict(zip(('of', 'name', 'options'), each)))
    if len(unique) > len(listed):
        say_more()
    elif not listed:
        click.echo('none', err=True)
    return 0 if listed else NOT_FOUND


def _order(each: tuple[str, Any, dict[str, Any]]) -> tuple[int, list[str]]:
    of, name, _ = each
    return list(_TITLES).index(of), [name or ''] if not isinstance(name, tuple) else list(name)


def _list_row(each: tuple[str, Any, dict[str, Any]]) -> tuple[str, ...]:
    of, name, options = each
    return (_TITLES[of], NOTHING if name is None else tenant_text(name) if of == 'tenant' else clean(name),
            ' '.join(f'{option}={_value_text(option, value)}' for option, value in sorted(options.items())))


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


@session_command(name='queue', known_queue=True,
                 short_help='Of the queue: algorithm, max_deliveries, max_dead_letters.')
@_OPTIONS
def queue(session: Session, options: tuple[str, ...]) -> None:
    """Algorithm, max_deliveries and max_dead_letters of the queue.

    \b
    Example:
        celery -A proj qos set queue algorithm=dwrr
    """
    _set(session, QoS, options, 'queue', None, '', (),
         lambda values: session.control.set_queue(session.queue, **values),
         # Its capacity is the sum of that of its sub-queues.
         lambda: {name: value for name, value in session.control.queue(session.queue).items() if name != 'capacity'})


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


for _each in list_, tenant, default_tenant, sub_queue, queue, egress:
    command.add_command(_each)


def _set(session: Session, kind: type[Options], words: tuple[str, ...], of: str, name: Any, title: str,
         sub_queues: Any, write: Callable[[dict[str, Any]], None], read: Callable[[], Mapping[str, Any]]) -> None:
    values = parsed(kind, _pairs(words), sub_queues)
    if values:
        write(values)
    in_force = read()
    set_here = session.control.set_at_run_time(of, name, session.queue)
    inherited = session.control.default_tenant(session.queue) if of == 'tenant' and isinstance(name, str) else {}

    def source(option: str, value: Any) -> str:
        if option in set_here:
            return 'run time'
        if value == getattr(kind, option, None):
            return 'default'
        return 'default tenant' if option in inherited and value == inherited[option] else 'config'

    data = {'queue': session.queue_name, 'of': of, 'name': name, 'options': in_force,
            'set_at_run_time': sorted(set_here)}

    def show() -> None:
        queue = f'queue {clean(session.queue_name)}'
        session.say(f'{title}, {queue}' if title else queue)
        session.emit_rows(in_force.items(), _COLUMNS, lambda pair: (
            pair[0], _value_text(*pair), source(*pair)))

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
