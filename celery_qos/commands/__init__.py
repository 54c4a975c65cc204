"""``celery -A proj qos ...``: one file a command, named like it, with a click command called `command`."""
from __future__ import annotations

from importlib import import_module
from typing import Any, Optional

import click
from click_didyoumean import DYMGroup

# ``celery inspect --list`` tells of the commands that this program knows.
from ..worker import remote as remote

__all__ = ('qos', 'COMMANDS')

#: In the order in which ``--help`` lists them.
COMMANDS: tuple[str, ...] = (
    'status', 'tenants', 'top', 'why', 'set', 'pause', 'resume', 'purge', 'move', 'delayed', 'dead', 'doctor',
    'exporter', 'web', 'migrate')


class Commands(DYMGroup):
    """Imports a command's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        module: Any = import_module(f'.{cmd_name.replace("-", "_")}', __name__)
        return module.command


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
def qos() -> None:
    """See and steer the tenants of a celery-qos broker.

    \b
    Exit codes: 0 done; 1 found nothing, or found something wrong; 2 wrong usage or value;
    3 Redis does not answer or refuses; 130 interrupted.

    \b
    Example:
        celery -A proj qos status
    """
