"""The program ``celery-qos``."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import click
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from . import __version__
from .demo.display import Display, Lines, LiveTable
from .demo.errors import Interrupted
from .demo.run import run
from .errors import QoSError

__all__ = ('main',)


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='celery-qos')
def main() -> None:
    """Weighted fair queueing between tenants for Celery, on Redis Streams."""


@main.command()
@click.option('--seconds', type=click.FloatRange(1, 600), default=20, show_default=True,
              help='How long tasks are sent.')
@click.option('--plain', is_flag=True,
              help='A line a second and no terminal control, for logs; the default where the output is no terminal.')
@click.option('--plot', 'picture', metavar='FILE.png', type=click.Path(dir_okay=False, path_type=Path),
              help="Draw every task's wait over time.")
def demo(seconds: float, plain: bool, picture: Optional[Path]) -> None:
    """A busy and a quiet tenant share a worker: watch how long each waits, here and on the stock Redis transport.

    Everything is real and its own: the demo starts two Redis servers and two Celery workers, and ends them.

    \b
    Example:
        celery-qos demo --seconds 30 --plot waits.png
    """
    try:
        display: Display = Lines() if plain or not sys.stdout.isatty() else LiveTable()
        run(seconds, display, picture)
    except Interrupted as exc:
        click.echo(f'ended by {exc.signal.name}', err=True)
        sys.exit(128 + exc.signal)
    except QoSError as exc:
        raise click.ClickException(str(exc)) from exc
    except (RedisError, KombuError) as exc:
        raise click.ClickException(f'a Redis server of the demo does not answer ({exc}); run the demo again') from exc


if __name__ == '__main__':
    main()
