"""``qos tenants``: who waits, for how long, and who gets how much."""
from __future__ import annotations

from typing import Optional

import click

from ..observe import SORTS
from .session import NOT_FOUND, Session, session_command
from .view import TENANT_COLUMNS, tenant_data, tenant_row

__all__ = ('command',)


@session_command(name='tenants', known_queue=True, short_help='Who waits, for how long, who gets how much.')
@click.option('--sort', type=click.Choice(SORTS), default='waiting', show_default=True,
              help="The most first; `wait` is the oldest task's.")
@click.option('--match', metavar='GLOB', default='', help='Only such tenants; keys of a tuple are joined by /.')
@click.option('--top', metavar='N', type=click.IntRange(1), default=20, show_default=True, help='Show so many.')
@click.option('--all', 'everything', is_flag=True, help='Show all; it takes memory for all.')
def command(session: Session, sort: str, match: str, top: int, everything: bool) -> Optional[int]:
    """The tenants with tasks waiting or in flight, or lately: how many, how long they waited, and their share.

    `oldest` is how long the oldest waiting task has waited; p50, p95 and p99 are of the tasks delivered in the last
    minutes; `share` is their part of these, `entitled` what its weight gives it among those that wait now.
    Exit code 1: there are none.

    \b
    Example:
        celery -A proj qos tenants --sort wait --top 5
        celery -A proj qos tenants --match 'acme*' --json
    """
    with session.progress('tenants looked at') as progress:
        found = session.control.tenants(session.queue, sort, None if everything else top, match, progress.at)
    count = session.emit_rows(found, TENANT_COLUMNS, tenant_row, tenant_data)
    if not count:
        click.echo('no tenants', err=True)
    return None if count else NOT_FOUND
