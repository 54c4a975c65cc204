"""The options of a queue that are in force."""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from typing import Any

from .. import keys
from ..errors import QoSError
from .database import WAITS, Database
from .replies import options_of, to_text

#: Instead of a run-time value: what the config says.
FORGET = object()


class Settings(Database):
    def set(self, queue: str, of: str, values: Mapping[str, Any], seconds: float = inf) -> bool:
        """Change options at run time; acts on waiting tasks at once. False where there is no such sub-queue.

        Where very many wait, the server is called until all go by it; who is next goes by it first.

        Arguments:
            of: ``queue``, ``default``, ``sub:<name>`` or ``tenant:<path>``.
            values: option to value, None where no limit holds, `FORGET` to go back to what the config says.
            seconds: for which the caller can wait; what is left then, the sweep does.

        Raises:
            QoSError: an earlier change was not over by then, so this one was not made.
        """
        until = monotonic() + seconds
        pairs = [part for name, value in values.items()
                 for part in (name, '' if value is FORGET else json.dumps(value))]
        done = WAITS
        while done == WAITS:
            done, *rest = self.run('set', queue, of, *pairs)
            if done == WAITS and monotonic() >= until:
                raise QoSError(f'queue {queue!r}: an earlier change is not over yet, as many wait, so nothing was '
                               'changed; try again in a few seconds')
        self._finish(queue, rest[0] if rest else 0, _rounds(until))
        return bool(done)

    def settings(self, queue: str, of: str) -> dict[str, Any]:
        """The options in force, as far as they were configured or set; keys as `set` has them."""
        fields = [of, f'set:{of}']
        if of.startswith('tenant:') and keys.PART not in of:
            fields += ['default', 'set:default']
        found: Any = self.client.hmget(keys.settings(self.namespace(queue)), fields)
        own, overrides, *defaults = map(options_of, found)
        if of.startswith('sub:') and found[0] is None:
            return {}       # what was set of one that is declared no longer does not hold
        if own is None:
            own = {name: value for each in defaults if each for name, value in each.items()}
        return {**own, **(overrides or {})}

    def overridden(self, queue: str, of: str) -> dict[str, Any]:
        """The options that were set at run time; keys as `set` has them."""
        found: Any = self.client.hget(keys.settings(self.namespace(queue)), f'set:{of}')
        return options_of(found) or {}

    def sub_queues(self, queue: str) -> list[str]:
        """Names of the declared sub-queues, in order."""
        names = self.settings(queue, 'queue').get('queues')
        return names if isinstance(names, list) else []

    def counters(self, queue: str) -> dict[tuple[str, str], int]:
        """What became of tasks that found no room: (`on_full`, sub-queue) to how many."""
        found: Any = self.client.hgetall(keys.settings(self.namespace(queue)))
        counts = {}
        for field, value in found.items():
            kind, _, rest = to_text(field).partition(':')
            if kind == 'count' and value.isdigit():
                on_full, _, sub_queue = rest.partition(':')
                counts[on_full, sub_queue] = int(value)
        return counts


def _rounds(until: float) -> Iterator[None]:
    """As many as begin before that time."""
    while monotonic() < until:
        yield
