"""``qos doctor``: what is wrong with the server and the queues, and what to do about it."""
from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from ..doctor import Finding, examine
from ..doctor.finding import counted
from .last_line import LastLine
from .session import ALL_QUEUES, NOT_FOUND, Session, session_command

__all__ = ('command',)

#: Level to its mark and color.
MARKS = {'ok': ('ok', 'green'), 'mended': ('mended', 'cyan'), 'warn': ('warning', 'yellow'), 'bad': ('bad', 'red')}


@session_command(name='doctor', queue_help=ALL_QUEUES)
@click.option('--fix', is_flag=True, help='Mend what can be mended without a risk, while workers and producers run.')
@click.option('--all', 'everything', is_flag=True, help='Say all that is well too, not only how much.')
@click.option('--quiet', is_flag=True, help='Say nothing of what is well.')
def command(session: Session, fix: bool, everything: bool, quiet: bool) -> int:
    """Check the server and the queues of the app, and say what to do.

    Looks at the server's version, persistence, memory policy, replicas, clock and rights; and in each queue for keys
    that no account mentions, counters that are wrong, ended leases, overdue tasks, idle slots and dead letters.
    Nothing is changed without --fix, which never deletes a task. Exit code 1: something is bad, and not mended.

    \b
    Example:
        celery -A proj qos doctor
        celery -A proj qos doctor --fix --queue emails
    """
    queues = [session.queue] if session.queue else session.control.queues
    found: list[Finding] = []
    with LastLine(quiet=session.as_json) as progress:
        for finding in examine(session.app, queues, fix, progress):
            found.append(finding)
            if not session.as_json and finding.level != 'ok':
                progress.clear()
                _show(finding)
    counts = Counter(finding.level for finding in found)
    session.emit({'findings': [asdict(finding) for finding in found], 'counts': counts},
                 lambda: _sum_up(found, everything, quiet))
    return NOT_FOUND if counts['bad'] else 0


def _show(finding: Finding) -> None:
    mark, color = MARKS[finding.level]
    place = f'{finding.queue}: ' if finding.queue else ''
    click.echo(f'{click.style(f"{mark:<8}", fg=color)} {place}{finding.sentence}')
    if finding.remedy:
        click.echo(f'{"":<8} -> {finding.remedy}')


def _sum_up(found: list[Finding], everything: bool, quiet: bool) -> None:
    """What is well comes last, as it is the longest."""
    well, counts = [each for each in found if each.level == 'ok'], Counter(each.level for each in found)
    if everything:
        for each in well:
            _show(each)
    elif well and not quiet:
        checks = ', '.join(dict.fromkeys(each.check.replace('_', ' ') for each in well))
        _show(Finding('ok', f'{checks}; --all says more'))
    words = [counted(counts[level], 'warning') if level == 'warn' else f'{counts[level]} {MARKS[level][0]}'
             for level in ('bad', 'warn', 'mended', 'ok') if counts[level]]
    click.echo(', '.join(words))
