"""``qos dead``: what could not be delivered, or found no room."""
from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import loads
from pathlib import Path
from typing import IO, Any, Optional

import click
from click_didyoumean import DYMGroup
from kombu.utils.json import dumps

from ..dead_letters import DeadLetter
from .listing import limit_options, listed
from .session import NOT_FOUND, Failure, Session, session_command
from .table import Column
from .tasks import Choice, batches, choice_options
from .tenant import Key
from .text import NOTHING, clean, tenant_text, time_text

__all__ = ('command',)

_LETTER_ID = re.compile(r'[0-9]{1,19}-[0-9]{1,19}')
_COLUMNS = (Column('letter id', width=15), Column('died', width=20), Column('reason', width=20), Column('tenant'),
            Column('task'), Column('task id', width=36))


def _reason_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return choice_options(click.option(
        '--reason', metavar='GLOB', default='', help='Only with such a reason, such as rejected.')(
            function))


@click.group(name='dead', cls=DYMGroup, short_help='What could not be delivered.')
def command() -> None:
    """See dead letters, have them delivered again, export or delete them.

    \b
    Example:
        celery -A proj qos dead list
        celery -A proj qos dead requeue --tenant acme
    """


@session_command(name='list', known_queue=True)
@_reason_option
@limit_options
def list_(session: Session, tenant: Optional[Key], task: str, reason: str, top: int,
          everything: bool) -> Optional[int]:
    """The dead letters, the oldest first. Exit code 1: there are none.

    \b
    Example:
        celery -A proj qos dead list --reason 'malformed*' --top 10
    """
    return listed(session, session.control.dead_letters(session.queue), Choice(tenant, task, reason),
                  None if everything else top, _COLUMNS, _row, _summary)


@session_command(name='show', known_queue=True)
@click.argument('letter_ids', metavar='LETTER_ID...', nargs=-1, required=True)
def show(session: Session, letter_ids: tuple[str, ...]) -> Optional[int]:
    """All there is of these dead letters: headers, properties and body. Exit code 1: some were not there.

    \b
    Example:
        celery -A proj qos dead show 1700000000000-0
    """
    _check_ids(letter_ids)
    letters = session.control.dead_letters(session.queue)
    found = {each: letters.get(each) for each in letter_ids}
    missing = [each for each, letter in found.items() if letter is None]

    def to_people() -> None:
        for letter in found.values():
            if letter is not None:
                _show(letter)

    session.emit([letter.as_json for letter in found.values() if letter is not None], to_people, exact=True)
    _say_missing(missing)
    return NOT_FOUND if missing else None


def _acting(name: str, help: str, done: str, act: Callable[[Any, list[str]], int], question: str) -> click.Command:
    @session_command(name=name, known_queue=True, help=help)
    @click.argument('letter_ids', metavar='[LETTER_ID]...', nargs=-1)
    @_reason_option
    @click.option('--all', 'everything', is_flag=True, help='All dead letters of the queue.')
    @click.option('-y', '--yes', is_flag=True, help='Do not ask where --tenant, --task, --reason or --all says which.')
    def command(session: Session, letter_ids: tuple[str, ...], tenant: Optional[Key], task: str, reason: str,
                everything: bool, yes: bool) -> Optional[int]:
        choice, letters = Choice(tenant, task, reason), session.control.dead_letters(session.queue)
        if bool(letter_ids) + bool(choice) + everything != 1:
            raise click.UsageError('name the letters by LETTER_IDs, or by --tenant, --task and --reason, or give --all')
        if letter_ids:
            _check_ids(letter_ids)
            count, missing = 0, []
            for each in letter_ids:
                there = act(letters, [each])
                count += there
                missing += [] if there else [each]
            _say_missing(missing)
        else:
            missing, total = [], len(letters)
            which = f'all {total:,} dead letters' if everything else f'those of {total:,} dead letters that match'
            if total:
                session.confirm(f'{question} {which} of queue {clean(session.queue_name)}?', yes)
            count = _act_on(session, letters, total, choice, act)
        session.emit({'queue': session.queue_name, done: count, 'not_found': missing},
                     lambda: session.say(f'{_letters_text(count)} {done}'))
        return NOT_FOUND if missing or not count else None
    return command


def _act_on(session: Session, letters: Any, total: int, is_meant: Callable[[Any], bool],
            act: Callable[[Any, list[str]], int]) -> int:
    count = 0
    with session.progress('dead letters looked at', total) as progress:
        # Not those that come meanwhile: what is requeued may die again at once.
        for batch in batches(letters, total) if total else ():
            ids = [letter.letter_id for letter in batch if is_meant(letter)]
            count += act(letters, ids) if ids else 0
            progress.advance(len(batch))
    return count


requeue = _acting('requeue', '''Have dead letters delivered again, as if they had just been published.

    They wait for their tenant's turn, and have all their deliveries before them. Exit code 1: there were none.

    \b
    Example:
        celery -A proj qos dead requeue 1700000000000-0
        celery -A proj qos dead requeue --reason 'delivered *' --tenant acme
    ''', 'requeued', lambda letters, ids: letters.requeue(*ids), 'Deliver again')

delete = _acting('delete', '''Forget dead letters. Export them first where they may be needed.

    Exit code 1: there were none.

    \b
    Example:
        celery -A proj qos dead delete --all --yes
    ''', 'deleted', lambda letters, ids: letters.delete(*ids), 'Delete')


@session_command(name='export', known_queue=True,
                 json_help='With --output, say as JSON how many were written; the letters are JSON in any case.')
@_reason_option
@click.option('-o', '--output', metavar='FILE', type=click.Path(dir_okay=False, path_type=Path),
              help='Write to this file, not to standard output.')
@click.option('--resume', is_flag=True, help='Go on with the file of --output, which the same command began.')
def export(session: Session, tenant: Optional[Key], task: str, reason: str, output: Optional[Path],
           resume: bool) -> Optional[int]:
    """Write dead letters as JSON, one a line; they stay where they are. Exit code 1: there were none.

    \b
    Example:
        celery -A proj qos dead export --output dead.jsonl
        celery -A proj qos dead export --output dead.jsonl --resume
    """
    if resume and not output:
        raise click.UsageError('--resume goes on with a file; name it with --output')
    letters, choice, count = session.control.dead_letters(session.queue), Choice(tenant, task, reason), 0
    with _opened(output, resume, session.queue_name) as (file, last_id), \
            session.progress('dead letters looked at', None if last_id else len(letters)) as progress:
        for letter in letters.past(last_id):
            if choice(letter):
                file.write(letters.line(letter))
                count += 1
            progress.advance()
    if output:
        session.emit({'queue': session.queue_name, 'exported': count, 'file': str(output)},
                     lambda: session.say(f'{_letters_text(count)} written to {output}'), lines=True)
    return None if count else NOT_FOUND


for _each in list_, show, requeue, delete, export:
    command.add_command(_each)


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (letter.letter_id, time_text(letter.died), clean(letter.reason), tenant_text(letter.tenant),
            clean(letter.name) or NOTHING, clean(letter.task_id) or NOTHING)


def _summary(letter: DeadLetter) -> dict[str, Any]:
    data = letter._asdict()
    return {name: data[name] for name in ('letter_id', 'reason', 'died', 'enqueued', 'deliveries', 'tenant',
                                          'sub_queue', 'task_id', 'name')}


def _show(letter: DeadLetter) -> None:
    data = letter.as_json
    rows = {'letter id': letter.letter_id, 'reason': letter.reason, 'died': time_text(letter.died),
            'published': time_text(letter.enqueued), 'deliveries': letter.deliveries,
            'tenant': tenant_text(letter.tenant), 'sub-queue': letter.sub_queue, 'task': letter.name,
            'task id': letter.task_id, **{name: dumps(data[name]) for name in ('headers', 'properties', 'other')},
            'body': data.get('body', data.get('body_base64', ''))}
    for name, value in rows.items():
        click.echo(f'{name:<12}{clean(value) or NOTHING}')
    click.echo()


def _letters_text(count: int) -> str:
    return '1 dead letter' if count == 1 else f'{count:,} dead letters'


def _check_ids(letter_ids: tuple[str, ...]) -> None:
    for each in letter_ids:
        if not _LETTER_ID.fullmatch(each):
            raise Failure(f'{clean(each)!r} is not the id of a dead letter, such as 1700000000000-0')


@contextmanager
def _opened(output: Optional[Path], resume: bool, queue: str) -> Iterator[tuple[IO[str], str]]:
    """The file, or standard output; and the id of the letter that an export to be resumed wrote last."""
    if not output:
        yield sys.stdout, ''
        return
    try:
        last_id = _cut(output, queue) if resume and output.exists() else ''
        with output.open('a' if resume else 'w', encoding='utf-8') as file:
            yield file, last_id
    except OSError as exc:
        raise Failure(f'--output: {output}: {exc.strerror or exc}') from exc


def _cut(output: Path, queue: str) -> str:
    """Cut off what an export did not write to the end of its line; returns the id of the letter before, '' for none."""
    with output.open('rb+') as file:
        last, rest, length = b'', b'', 0
        for line in file:
            if line.endswith(b'\n'):
                last, length = line, length + len(line)
            else:
                rest = line
        letter_id, begins = '', dumps({'queue': queue}).encode()[:-1]
        try:
            if last:
                letter = loads(last)
                letter_id = str(letter['letter_id'])
                if letter['queue'] != queue or not _LETTER_ID.fullmatch(letter_id):
                    raise ValueError(letter_id)
            elif not rest.startswith(begins[:len(rest)]):
                raise ValueError(rest)
        except (ValueError, LookupError, TypeError, RecursionError) as exc:
            raise Failure(f'--output: {output}: it does not end with a dead letter of queue {clean(queue)}, so '
                          '--resume cannot tell where to go on') from exc
        file.truncate(length)
    return letter_id


def _say_missing(missing: list[str]) -> None:
    if missing:
        click.echo(f'no dead letter has the id {", ".join(map(clean, missing))}', err=True)
