"""What every command is given: the app's queues, and where its answer goes."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Optional

import click
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from ..app import Control, control
from ..errors import QoSError
from ..notices import reason
from ..transport import Transport

__all__ = ('Session', 'session_command', 'NOT_FOUND', 'WRONG_VALUE', 'NO_ANSWER')

#: Exit codes.
NOT_FOUND, WRONG_VALUE, NO_ANSWER = 1, 2, 3


class Session:
    """One run of a command.

    Arguments:
        app: the Celery app that ``-A`` names.
        queue: the one that ``--queue`` names; None for the app's default queue.
        as_json: the answer is one JSON document on standard output.
    """

    def __init__(self, app: Any, queue: Optional[str], as_json: bool) -> None:
        self.app, self.queue, self.as_json = app, queue, as_json

    @property
    def control(self) -> Control:
        return control(self.app)

    @property
    def queue_name(self) -> str:
        return self.queue or self.app.conf.task_default_queue

    def emit(self, data: Any, show: Callable[[], None]) -> None:
        """Write `data` as JSON, or call what shows it to people."""
        if self.as_json:
            click.echo(json.dumps(data, default=_plain, ensure_ascii=False, indent=2))
        else:
            show()

    def say(self, text: str) -> None:
        """To people, beside the answer: on standard error where that is JSON."""
        click.echo(text, err=self.as_json)


def session_command(**kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command whose function is given a `Session` first, and returns its exit code, None for 0."""
    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.option('-Q', '--queue', metavar='NAME', help="The Celery queue; by default the app's default queue.")
        @click.option('--json', 'as_json', is_flag=True, help='Answer with one JSON document.')
        @click.pass_context
        @wraps(function)
        def run(ctx: click.Context, queue: Optional[str], as_json: bool, **options: Any) -> None:
            app = ctx.obj.app
            if not issubclass(app.connection_for_read().get_transport_cls(), Transport):
                raise _Failure(f'the broker of this app is {app.connection_for_read().as_uri()}, not celery-qos; '
                               "set broker_url = 'qos://...', and name the app by -A", WRONG_VALUE)
            try:
                sys.exit(function(Session(app, queue, as_json), **options) or 0)
            except QoSError as exc:
                raise _Failure(str(exc), WRONG_VALUE) from exc
            except (RedisError, KombuError, OSError) as exc:
                raise _Failure(f'Redis does not do it: {reason(exc)}', NO_ANSWER) from exc

        return click.command(**kwargs)(run)
    return decorate


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code      # type: ignore[misc]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
