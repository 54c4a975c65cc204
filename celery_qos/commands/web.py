"""``qos web``: the live page."""
from __future__ import annotations

import webbrowser
from typing import Optional

import click

from ..errors import ConfigError
from .session import ALL_QUEUES, NO_ANSWER, Session, session_command

__all__ = ('command',)

#: Characters of a token at least: it is all that keeps others from changing things.
SHORTEST_TOKEN = 16


@session_command(name='web', queue_help=ALL_QUEUES, json_help='Say as JSON where it listens, for programs.')
@click.option('--host', default='127.0.0.1', show_default=True, metavar='ADDRESS',
              help='Where it can be reached: by default from this machine alone. 0.0.0.0 is for everybody.')
@click.option('--port', type=click.IntRange(0, 65535), default=8910, show_default=True, help='0 takes a free one.')
@click.option('--token', envvar='CELERY_QOS_WEB_TOKEN', metavar='TEXT', show_envvar=True,
              help='Who has it may change things; without one, the page is read-only. Other users of this machine '
                   'may see options of commands, so better give it by the variable.')
@click.option('--name', 'names', multiple=True, metavar='NAME',
              help='A name that browsers call this server by, such as that of a proxy before it. Can be repeated.')
@click.option('--open', 'open_browser', is_flag=True, help='Open the page in a browser.')
def command(session: Session, host: str, port: int, token: Optional[str], names: tuple[str, ...],
            open_browser: bool) -> None:
    """A live page: tenants, the way of their tasks through egress to the workers, settings, dead letters.

    \b
    Example:
        celery -A proj qos web
        CELERY_QOS_WEB_TOKEN=$(openssl rand -hex 16) celery -A proj qos web --port 8080
    """
    from ..web.api import Api
    from ..web.server import Server

    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f'token: has {len(token)} characters, needs {SHORTEST_TOKEN}; make one by: '
                          f'openssl rand -hex 16')
    _fail_soon(session.app)
    api = Api(session.control, [session.queue] if session.queue else _queues(session), token)
    try:
        server = Server(api, host, port, names)
    except OSError as exc:
        session.fail(f'host, port: cannot listen on {host}, port {port}: {exc.strerror}; give others', NO_ANSWER)
    with server:
        session.emit({'url': server.url, 'writable': token is not None}, lambda: click.echo(
            f'{server.url} ({"changes need the token" if token else "read-only: no --token"}); Ctrl-C ends it'))
        if open_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.say('ended')


def _queues(session: Session) -> list[str]:
    """The default queue first."""
    return sorted(session.control.queues, key=lambda name: name != session.queue_name)


def _fail_soon(app: object) -> None:
    """While Redis is away, the page says so and asks again: nobody waits for a connection's many tries."""
    conf = app.conf     # type: ignore[attr-defined]
    conf.broker_transport_options = {**(conf.broker_transport_options or {}), 'max_retries': 0}
