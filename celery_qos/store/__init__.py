"""The waist between Python and Redis: one typed method per script; nothing else calls Lua or spells a key."""
from __future__ import annotations

from .calls import IDS_PER_CALL, batches
from .database import MINIMUM_SERVER, SCHEMA_VERSION
from .dead_letters import DeadLetters
from .egress import Egress
from .lists import Lists
from .queues import Queues
from .replies import Delayed, Delivery, Recovery, Sweep, Tracked, fields_of, options_of, to_bytes, to_text
from .settings import FORGET, Settings
from .tasks import Tasks
from .waiting import Waiting
from .workers import WAITS_PER_CALL, Workers

__all__ = ('Store', 'Delivery', 'Delayed', 'Recovery', 'Sweep', 'Tracked', 'SCHEMA_VERSION', 'MINIMUM_SERVER',
           'FORGET', 'IDS_PER_CALL', 'WAITS_PER_CALL', 'batches', 'fields_of', 'options_of', 'to_bytes', 'to_text')


class Store(Waiting, Queues, Settings, Workers, Tasks, DeadLetters, Egress, Lists):
    """The queues of one Redis database.

    Arguments:
        client: a client that returns bytes.
        prefix: what every key begins with, inside its hash tag.
    """
