"""What every command is given: the app's queues, and where its answer goes."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import wraps
from math import isfinite
from typing import Any, NoReturn, Optional

import click
from kombu.exceptions import KombuError
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from ..app import Control, control
from ..checks import unknown_queue
from ..errors import QoSError
from ..notices import reason
from ..scripts import WritesRefused, complaint, unavailable
from ..transport import Transport
from .progress import Interrupted, Progress
from .table import Column, show

__all__ = ('Session', 'Failure', 'session_command', 'NOT_FOUND', 'WRONG_VALUE', 'NO_ANSWER', 'INTERRUPTED',
           'ONE_QUEUE', 'ALL_QUEUES')

#: Exit codes.
NOT_FOUND, WRONG_VALUE, NO_ANSWER, INTERRUPTED = 1, 2, 3, 130
#: What ``--queue`` means.
ONE_QUEUE = "The Celery queue; by default the app's default queue."
ALL_QUEUES = 'Only this Celery queue; by default all queues of the app.'


class Failure(click.ClickException):
    """Ends the command with one line on standard error."""

    def __init__(self, message: str, exit_code: int = WRONG_VALUE) -> None:
        super().__init__(message)
        self.exit_code = exit_code      # type: ignore[misc]


class Session:
    """One run of a command.

    Arguments:
        app: the Celery app that ``-A`` names.
        queue: the one that ``--queue`` names; None for the app's default queue.
        as_json: the answer is one JSON document on standard output.
        colour: whether colours are wanted.
    """

    def __init__(self, app: Any, queue: Optional[str], as_json: bool, colour: bool = True) -> None:
        self.app, self.queue, self.as_json, self.colour = app, queue, as_json, colour
        #: Of the server that the command speaks to, where it is not the app's broker: its address, and who says it.
        self.elsewhere: Optional[tuple[str, str]] = None

    @property
    def control(self) -> Control:
        return control(self.app)

    @property
    def queue_name(self) -> str:
        return self.queue or self.app.conf.task_default_queue

    @property
    def place(self) -> tuple[str, str]:
        """Address of the server, and who says it."""
        return self.elsewhere or (self.app.connection_for_read().as_uri(), 'broker_url of the app')

    def emit(self, data: Any, show: Callable[[], None], lines: bool = False, exact: bool = False) -> None:
        """Write `data` as JSON, or call what shows it to people.

        Arguments:
            lines: more documents may follow: each is one line.
            exact: it is somebody's data, in which no number may be rounded.
        """
        if self.as_json:
            click.echo(_json(data, None if lines else 2, exact))
        else:
            show()

    def emit_rows(self, items: Iterable[Any], columns: Sequence[Column], as_row: Callable[[Any], Sequence[str]],
                  as_data: Callable[[Any], Any] = lambda item: item) -> int:
        """Write a list as it comes in, as JSON with an item a line, or as a table; returns how long it was."""
        count = 0

        def counted() -> Iterable[Any]:
            nonlocal count
            for item in items:
                count += 1
                yield item

        if self.as_json:
            for item in counted():
                click.echo(('[' if count == 1 else ',\n') + _json(as_data(item)), nl=False)
            click.echo(']' if count else '[]')
        else:
            show(columns, map(as_row, counted()), self.colour)
        return count

    def say(self, text: str) -> None:
        """To people, beside the answer: on standard error where that is JSON."""
        click.echo(_encodable(text), err=self.as_json)

    def progress(self, what: str, total: Optional[int] = None) -> Progress:
        """Around long work; `what` was done so far, such as ``deleted``."""
        return Progress(what, total)

    def confirm(self, question: str, yes: bool) -> None:
        """Go on where the user, or ``--yes``, says so; else end with 1."""
        try:
            if yes or click.confirm(question, err=True):
                return
        except click.Abort:
            if sys.stdin.isatty():
                raise
            click.echo(err=True)
            raise Failure('there is nobody to ask: give --yes; nothing was done') from None
        raise Failure('nothing was done', NOT_FOUND)

    def fail(self, message: str, exit_code: int = WRONG_VALUE) -> NoReturn:
        raise Failure(message, exit_code)


def session_command(known_queue: bool = False, queue_help: str = ONE_QUEUE,
                    json_help: str = 'Answer with one JSON document.',
                    **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command whose function is given a `Session` first, and returns its exit code, None for 0.

    Arguments:
        known_queue: refuse the name of a queue that neither the app nor Redis knows.
        queue_help: says what ``--queue`` means, `json_help` the same of ``--json``.
        kwargs: of `click.command`.
    """
    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.option('-Q', '--queue', metavar='NAME', help=queue_help)
        @click.option('--json', 'as_json', is_flag=True, help=json_help)
        @click.pass_context
        @wraps(function)
        def run(ctx: click.Context, queue: Optional[str], as_json: bool, **options: Any) -> None:
            session = Session(ctx.obj.app, queue, as_json, colour=not ctx.obj.no_color)
            try:
                _check_broker(session.app)
                if known_queue:
                    _check_queue(session)
                sys.exit(function(session, **options) or 0)
            except QoSError as exc:
                raise Failure(_encodable(str(exc)), WRONG_VALUE) from exc
            except BrokenPipeError:
                raise       # nobody reads the answer to its end: click knows what to do
            except (RedisError, KombuError, OSError) as exc:
                raise Failure(_encodable(_trouble(exc, session)), NO_ANSWER) from exc
            except KeyboardInterrupt as exc:
                text = f': {exc}; run the same command again to go on' if isinstance(exc, Interrupted) else ''
                raise Failure(f'interrupted{text}', INTERRUPTED) from exc

        return click.command(**kwargs)(run)
    return decorate


def _check_broker(app: Any) -> None:
    try:
        connection = app.connection_for_read()
        if issubclass(connection.get_transport_cls(), Transport):
            return
        broker = connection.as_uri()
    except (KeyError, ImportError) as exc:      # Kombu knows no such transport
        broker = str(exc.args[0])
    raise Failure(f"the broker of this app is not celery-qos: {broker}; set broker_url = 'qos://...', and name the app "
                  'by -A')


def _check_queue(session: Session) -> None:
    name, known = session.queue, session.control.queues
    if name is not None and name not in known and session.control.size(name) is None:
        raise Failure(unknown_queue(_encodable(name), known))


def _trouble(exc: BaseException, session: Session) -> str:
    if isinstance(exc, ResponseError):
        exc = unavailable(exc) or exc
    if isinstance(exc, ReadOnlyError):
        address, setting = session.place
        sentinel = 'sentinel' in address.partition('://')[0]
        return f'Redis at {address} is a replica, and takes no writes; ' + (
            'try again when the Sentinels have agreed on its master' if sentinel else f'name its master in {setting}')
    if isinstance(exc, (WritesRefused, OutOfMemoryError)):
        return f'Redis at {session.place[0]} takes no writes: {complaint(exc)}; see celery qos doctor'
    if not isinstance(exc, ResponseError):
        return (f'Redis at {session.place[0]} does not answer: {reason(exc).rstrip(".")}; is it running? The address '
                f'is {session.place[1]}')
    text = complaint(exc)
    may_not = 'no permissions' in text or "can't run this command" in str(exc) or isinstance(exc, NoPermissionError)
    return f'Redis refuses: {text}' + ('; give the app a broker URL whose user may do this' if may_not else '')


def _json(data: Any, indent: Optional[int] = None, exact: bool = False) -> str:
    return _encodable(json.dumps(data if exact else _rounded(data), default=_plain, ensure_ascii=False, indent=indent))


def _rounded(data: Any) -> Any:
    """Without the digits of floats that say nothing: six after the point, or of a small number six in all."""
    if isinstance(data, float) and isfinite(data):
        return round(data, 6) if abs(data) >= 1 else float(f'{data:.6g}')
    if is_dataclass(data) and not isinstance(data, type):
        return _rounded(asdict(data))
    if isinstance(data, Mapping):
        return {name: _rounded(value) for name, value in data.items()}
    return [_rounded(each) for each in data] if isinstance(data, (list, tuple)) else data


def _encodable(text: str) -> str:
    """Names that are no UTF-8 have code points that no output takes."""
    return text.encode(errors='replace').decode()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
