"""The demo from start to end."""
from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Optional

from . import plot, report
from .display import Display
from .errors import DemoError
from .interrupt import Interrupts
from .load import SENDERS
from .side import Side
from .table import View

__all__ = ('run',)

#: Seconds between two looks at the transports.
_LOOK_EVERY = 0.25
#: Seconds that both workers may take to come up.
_START_TIMEOUT = 60.0
#: Seconds that the workers get for what still waits when no more is sent.
_DRAIN_SECONDS = 10.0


def run(seconds: float, display: Display, picture: Optional[Path] = None) -> None:
    """Put the load on both transports for some seconds, and print what came of it.

    Arguments:
        picture: where to draw the waits.

    Raises:
        QoSError: it could not be done.
        Interrupted: a signal asked for the end.
    """
    if picture:
        plot.check(picture)
    _forget_settings()
    print(report.introduction(SENDERS), end='\n\n', flush=True)
    with Interrupts() as interrupts, ExitStack() as stack:
        sides: list[Side] = []
        with display:
            display.say('starting two Redis servers and two workers ...')
            for name, scheme in (('celery-qos', 'qos'), ('stock redis', 'redis')):
                interrupts.check()
                sides.append(stack.enter_context(Side(name, scheme, SENDERS)))
            stack.callback(_stop_all, sides)
            _await_workers(sides, interrupts)
            view = _put_load(sides, seconds, display, interrupts)
            display.end(view)
        points = {side.name: side.points() for side in sides}
    print(f'\n{report.meaning(view)}\n\n{report.PLUG_IN}')
    if picture:
        plot.draw(points, picture)
        print(f'\nThe waits over time: {picture}')


def _forget_settings() -> None:
    """Celery prefers CELERY_BROKER_URL and its like to what an app says: the demo must not touch that broker."""
    for name in [name for name in os.environ if name.startswith('CELERY_')]:
        del os.environ[name]


def _stop_all(sides: list[Side]) -> None:
    """Have the workers end at the same time rather than one after the other."""
    for side in sides:
        side.stop()


def _await_workers(sides: list[Side], interrupts: Interrupts) -> None:
    deadline = monotonic() + _START_TIMEOUT
    for side in sides:
        while not side.answers():
            interrupts.check()
            if monotonic() > deadline:
                raise DemoError(f'the {side.name} worker did not answer within {_START_TIMEOUT:g} s; try again with '
                                f'less else running on this machine')


def _put_load(sides: list[Side], seconds: float, display: Display, interrupts: Interrupts) -> View:
    """Send for `seconds`, then give the workers a while for what waits; returns how it stands at the end."""
    began = monotonic()
    for side in sides:
        side.begin(seconds)
    sending = True
    while True:
        interrupts.check()
        elapsed = monotonic() - began
        if sending and elapsed >= seconds:
            sending = False
            for side in sides:
                side.end()
        view = {side.name: side.look() for side in sides}
        display.show(elapsed, seconds, view)
        drained = not any(state.waiting + state.in_flight for states in view.values() for state in states)
        if not sending and (drained or elapsed >= seconds + _DRAIN_SECONDS):
            return view
        sleep(_LOOK_EVERY)
