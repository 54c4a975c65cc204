"""What a run's figures say, and how to have the same in an app."""
from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from .load import TASK_SECONDS, Sender
from .side import TenantState
from .table import View

__all__ = ('introduction', 'meaning', 'PLUG_IN')

#: Columns of a line of prose.
_WIDTH = 80

PLUG_IN = '''\
To have it in your app:

    from celery import Celery

    app = Celery('shop', broker='qos://localhost:6379/0')   # was redis://

    @app.task(tenant_key='account_id')                      # an argument's name
    def sync(account_id): ...

    sync.delay(42)                                          # tenant '42'
    sync.apply_async((42,), tenant='acme')                  # or any you name

and  celery -A shop worker  as ever.'''


def introduction(senders: Sequence[Sender]) -> str:
    """What is going to happen."""
    tenants = ', '.join(map(str, senders))
    return fill(f'{tenants[0].upper()}{tenants[1:]}. A task takes {TASK_SECONDS * 1000:.0f} ms, and a worker runs one '
                f'at a time: {1 / TASK_SECONDS:.0f} a second at most. Two transports get this load at the same time, '
                f'each with a worker and a Redis server of its own.', _WIDTH)


def meaning(view: View) -> str:
    """The run in a few sentences, for the tenant that sent least: its waits on the first transport and on the other."""
    (name, states), (other, other_states) = view.items()
    by_size = sorted(range(len(states)), key=lambda place: states[place].sent)
    here, there = states[by_size[0]], other_states[by_size[0]]
    busy, busy_there = states[by_size[-1]], other_states[by_size[-1]]
    text = (f'Tenant {here.tenant} is the quiet one. On {name} its tasks waited {_waits(here)}. '
            f'On {other} they waited {_waits(there)}. '
            f'Tenant {busy.tenant}, the busy one, waited {_waits(busy)} on {name}, {_waits(busy_there)} on {other}.')
    left = [f'{state.waiting + state.in_flight} of tenant {state.tenant} on {side}'
            for side, states in view.items() for state in states if state.waiting + state.in_flight]
    if left:
        text += (f' Not done at the end: {", ".join(left)}. A task that had not started counts with its age; a figure '
                 f'that is only a lower bound for that reason has a ">".')
    return fill(text, _WIDTH)


def _waits(state: TenantState) -> str:
    if state.waits.median is None or state.waits.longest is None:
        return 'not at all: none was sent'
    return f'{state.waits.median} in the median and {state.waits.longest} at most'
