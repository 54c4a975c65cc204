"""``qos migrate``: from Celery's stock Redis transport, and back."""
from __future__ import annotations

import json
from time import sleep
from typing import Any, Optional, Union

import click
from kombu.utils.url import maybe_sanitize_url

from ..errors import ConfigError
from ..migrate import Back, Forward, Moved, Stock, Tenants
from .progress import Interrupted, Progress
from .session import ALL_QUEUES, NOT_FOUND, Session, session_command
from .text import clean, tenant_text

__all__ = ('command',)

#: Seconds between two looks with ``--follow``.
FOLLOW_SECONDS = 1.0
#: Tenants that ``--dry-run`` names, and workers that are.
MOST_TENANTS, MOST_NAMED = 10, 5


@session_command(name='migrate', queue_help=ALL_QUEUES)
@click.option('--back', is_flag=True, help='From the tenants to the stock lists.')
@click.option('--from', 'origin', metavar='URL', help='Where the stock deployment is; by default the '
              "database of the app's broker.")
@click.option('--to', 'target', metavar='URL', help='The same with --back.')
@click.option('--to-queue', metavar='NAME', help='Move the tasks of --queue into a queue of another name.')
@click.option('--tenant', default='', metavar='KEY', help='Whose the tasks are that no tenant is found of; '
              'by default the empty tenant.')
@click.option('--one-tenant', metavar='KEY', help='Whose all tasks are, whatever they say.')
@click.option('--unacked', is_flag=True, help='Move what stock workers have not acknowledged, too; they must have '
              'stopped.')
@click.option('--follow', is_flag=True, help='Go on with what is published meanwhile, until Ctrl-C.')
@click.option('--stock-options', metavar='JSON', help='Transport options of the stock deployment that differ from the '
              "app's, such as {\"global_keyprefix\": \"old.\"}; ssl among them takes the place of broker_use_ssl.")
@click.option('-n', '--dry-run', is_flag=True, help='Count, and move nothing.')
def command(session: Session, back: bool, origin: Optional[str], target: Optional[str], to_queue: Optional[str],
            tenant: str, one_tenant: Optional[str], unacked: bool, follow: bool, stock_options: Optional[str],
            dry_run: bool) -> int:
    """Move waiting tasks from Celery's stock Redis transport into tenants' streams, or --back.

    Without --queue, of all queues that the app is configured with. A task goes to the tenant in its headers, else to
    the one that its tenant_key finds in its arguments, else to --tenant. It waits for its tenant's turn there, behind
    nobody else's backlog. Delayed tasks, priorities and expiry stay what they are; no capacity keeps a task out.

    Workers and producers may run, old and new ones. A task is in exactly one place at any time: interrupted or killed,
    run the same again and it goes on.

    \b
    What a stock worker has taken and not acknowledged stays with it: moved, it would run twice.
    When all stock workers have stopped, --unacked moves what they left behind; otherwise they put
    it back themselves after their visibility timeout, 1 hour by default.
    With --back, what a worker holds stays with it until that has stopped or its lease has ended.

    \b
    Examples:
        celery -A proj qos migrate --dry-run
        celery -A proj qos migrate
        celery -A proj qos migrate --unacked --from redis://old:6379/0
        celery -A proj qos migrate --back
    """
    _check(session, back, origin, target, to_queue, tenant, one_tenant, unacked, follow)
    options = _options(stock_options)
    queues = [session.queue] if session.queue else session.control.queues
    with _stock(session, origin or target, '--to' if back else '--from', options) as stock, \
            session.app.pool.acquire(block=True) as connection:
        mover: Union[Forward, Back]
        if back:
            mover = Back(stock, connection.default_channel)
        else:
            tenants = Tenants(session.app, tenant, one_tenant)
            mover = Forward(stock, connection.default_channel, tenants, unacked)
        if unacked and not dry_run and (alive := stock.alive()):
            raise ConfigError(f'--unacked: stock workers are alive: {", ".join(alive)}; stop them first, or leave the '
                              'option out, and they run what they hold')
        if dry_run:
            reports = [mover.count(queue, to_queue or queue) for queue in queues]
        else:
            reports = [Moved(queue, to_queue or queue) for queue in queues]
            with session.progress('moved') as progress:
                _move(mover, reports, follow, progress)
        if isinstance(mover, Forward) and reports and (unacked or dry_run):
            mover.note_others(reports)
    session.emit(reports, lambda: _show(session, reports, back, dry_run))
    wrong = any(report.left or report.malformed or report.of_others for report in reports)
    return NOT_FOUND if wrong and not dry_run and not follow else 0


def _check(session: Session, back: bool, origin: Optional[str], target: Optional[str], to_queue: Optional[str],
           tenant: str, one_tenant: Optional[str], unacked: bool, follow: bool) -> None:
    if origin and back:
        raise ConfigError('--from: with --back the stock deployment is where the tasks go; name it by --to')
    if target and not back:
        raise ConfigError('--to: without --back the stock deployment is where the tasks come from; name it by --from')
    if to_queue and not session.queue:
        raise ConfigError('--to-queue: name the queue whose tasks go there by --queue')
    if back and (tenant or one_tenant is not None or unacked):
        raise ConfigError('--tenant, --one-tenant, --unacked: have no meaning with --back')
    if tenant and one_tenant is not None:
        raise ConfigError('--tenant, --one-tenant: one of them')
    if unacked and follow:
        raise ConfigError('--unacked, --follow: one of them; what is not acknowledged is moved once')


def _options(text: Optional[str]) -> dict[str, Any]:
    try:
        options = json.loads(text or '{}')
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise ConfigError(f'--stock-options: {text!r} is no JSON object, such as {{"global_keyprefix": "old."}}')
    return options


def _stock(session: Session, url: Optional[str], option: str, options: dict[str, Any]) -> Stock:
    if not url:
        return Stock(session.app, None, options)
    try:
        address, (broker, setting) = ';'.join(map(maybe_sanitize_url, url.split(';'))), session.place
    except ValueError:
        # What it says may be a part of the password.
        raise ConfigError(f'{option}: is no URL; in a password, what is no letter or digit is written as %XX') from None
    session.elsewhere = address, f'the URL of {option}'
    try:
        stock = Stock(session.app, url, options)
    except ConfigError as exc:
        raise ConfigError(f'{option}: {exc}') from exc
    # From now on it may be either.
    session.elsewhere = f'{broker} or {address}', f'{setting}, or the URL of {option}'
    return stock


def _move(mover: Union[Forward, Back], reports: list[Moved], follow: bool, progress: Progress) -> None:
    mover.progress = lambda: progress.at(sum(report.moved for report in reports),
                                         sum(report.total for report in reports))
    while True:
        try:
            for report in reports:
                mover.move(report)
            if not follow:
                return
            sleep(FOLLOW_SECONDS)
            mover.progress()
        except Interrupted:
            if follow:
                return
            raise


def _show(session: Session, reports: list[Moved], back: bool, dry_run: bool) -> None:
    for report in reports:
        click.echo(_line(report, back, dry_run))
        if report.of_others:
            click.echo(f'  {report.of_others:,} in `unacked` belong to no queue of these; name them by --queue')
        for note in report.notes:
            click.echo(f'  {clean(note)}')
        if report.holders:
            names = ', '.join(map(clean, sorted(report.holders)[:MOST_NAMED]))
            click.echo(f'  held by {names}: stop them, or, if they are gone, wait until their leases have ended, '
                       f'{max(report.holders.values()):.0f} s from now; then run it again')
        if report.tenants:
            most = list(report.tenants.items())[:MOST_TENANTS]
            names = ', '.join(f'{tenant_text(tenant)} {count:,}' for tenant, count in most)
            click.echo(f'  the first {sum(report.tenants.values()):,} by tenant: {names}')


def _line(report: Moved, back: bool, dry_run: bool) -> str:
    name = clean(report.queue if report.to == report.queue else f'{report.queue} to {report.to}')
    if dry_run:
        found = ', '.join(f'{count:,} {kind}' for kind, count in report.found.items())
        text = f'{name}: {sum(report.found.values()):,} to move' + (f' ({found})' if found else '')
    else:
        kinds = {'delayed': report.delayed, 'expired': report.expired, 'not acknowledged': report.unacked,
                 'without a tenant': report.without_tenant}
        of_these = ', '.join(f'{count:,} {kind}' for kind, count in kinds.items() if count)
        text = f'{name}: {report.moved:,} moved' + (f' ({of_these})' if of_these else '')
    others = {
        'taken by workers meanwhile': report.taken, 'held by workers, which stay': report.held,
        'that are no tasks': report.malformed, 'dead letters, which stay': report.dead,
        'cancelled or expired, which stay': report.cancelled, 'left; run it again': 0 if dry_run else report.left}
    return '; '.join([text, *(f'{count:,} {kind}' for kind, count in others.items() if count)])
