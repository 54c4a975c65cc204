"""Why a task, or a tenant, waits: in one sentence."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ('Why', 'STATES')

#: What there is to find out about a task or a tenant.
STATES = ('paused', 'capped', 'throttled', 'waiting', 'delayed', 'running', 'dead', 'idle', 'gone', 'unknown')


@dataclass(frozen=True)
class Why:
    """One answer.

    Arguments:
        state: one of `STATES`.
        sentence: the same for people.
        facts: what the sentence says, for programs: `tenant`, `behind`, `turns`, `due`, `worker`, `reason`...
    """

    state: str
    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence
