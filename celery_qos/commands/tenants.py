"""``qos tenants``: who waits, for how long, and who gets how much."""
from __future__ import annotations

from typing import Optional

import click

from .listing import say_more, top_option
from .session import NOT_FOUND, Session, session_command
from .sorting import sort_option
from .view import TENANT_COLUMNS, tenant_data, tenant_row

__all__ = ('command',)


@session_command(name='tenants', known_queue=True, short_help='Who waits, for how long, who gets how much.')
@sort_option
@click.option('--match', metavar='GLOB', default='', help='Only such tenants; keys of a tuple are joined by /.')
@top_option(20)
@click.option('--all', 'everything', is_flag=True, help='List all; it takes memory for all.')
def command(session: Session, sort: str, match: str, top: int, everything: bool) -> Optional[int]:
    """The tenants with tasks waiting or in flight, or lately: how many, how long they waited, and their share.

    `oldest` is how long the oldest waiting task has waited; p50, p95 and p99 are of the tasks delivered in the last
    minutes; `share` is their part of these, `entitled` what its weight gives it among those that wait now.
    Exit code 1: there are none.

    \b
    Example:
        celery -A proj qos tenants --sort oldest --top 5
        celery -A proj qos tenants --match 'acme*' --json
    """
    with session.progress('tenants looked at') as progress:
        # One more than is listed, to know whether there are more.
        found = session.control.tenants(session.queue, sort, None if everything else top + 1, match, progress.at)
    listed = found if everything else found[:top]
    session.emit_rows(listed, TENANT_COLUMNS, tenant_row, tenant_data)
    if len(found) > len(listed):
        say_more()
    elif not listed:
        click.echo('none', err=True)
    return None if listed else NOT_FOUND
