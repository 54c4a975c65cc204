"""What Redis replies, as Python has it."""
from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional


class Delivery(NamedTuple):
    """A task as it lies in egress."""

    queue: str
    #: Names the entry within the queue; those of streams of egress past the first begin with the stream's number.
    entry_id: str
    fields: dict[bytes, bytes]

    @property
    def stream(self) -> int:
        """The number of the stream of egress."""
        number, colon, _ = self.entry_id.partition(':')
        return int(number) if colon else 0


class Tracked(NamedTuple):
    """A delivery whose end has to be reported: a limit counts it, or its tenant pays for the time that it took."""

    entry_id: str
    sub_queue: str
    tenant: str
    #: Seconds that it was taken to last when it was dispatched, as the entry has it.
    cost: str
    #: Seconds that it took; None where nobody knows.
    seconds: Optional[float] = None


class Delayed(NamedTuple):
    """A task that waits for its time."""

    #: Tells it apart from all others.
    place: str
    due_ms: int
    tenant: str
    #: The one that it names.
    sub_queue: str
    fields: dict[bytes, bytes]


class Recovery(NamedTuple):
    """What a sweep did with a consumer whose lease had ended."""

    consumer: str
    #: Tasks that are delivered again.
    tasks: int
    #: Tasks that became dead letters, as that was too often in vain.
    died: int
    #: False where there are more.
    done: bool


class Sweep(NamedTuple):
    """What one iteration of a sweep loop did, and what the loop has to know."""

    #: Whether this sweeper is one of those that loop.
    holds: bool
    #: Tasks that were dispatched or are delivered again.
    moved: int = 0
    #: In how many ms something is due; None where nothing is.
    due_ms: Optional[int] = None
    idle_threshold: int = 1
    #: In seconds.
    idle_timeout: float = 10.0
    #: Tasks that will not run, of which Celery is to be told.
    discarded: int = 0
    recoveries: tuple[Recovery, ...] = ()


def delivery_of(queue: str, name: str, flat: list[bytes]) -> Delivery:
    return Delivery(queue, name, fields_of(flat))


def delayed_of(place: bytes, due: bytes, tenant: bytes, sub_queue: bytes, *flat: bytes) -> Delayed:
    return Delayed(to_text(place), int(due), to_text(tenant), to_text(sub_queue), fields_of(list(flat)))


def fields_of(flat: list[bytes]) -> dict[bytes, bytes]:
    pairs = iter(flat)
    return dict(zip(pairs, pairs))


def to_text(value: bytes) -> str:
    """Text that `to_bytes` makes the same bytes of, whoever wrote them."""
    return value.decode(errors='surrogateescape')


def to_bytes(value: str) -> bytes:
    return value.encode(errors='surrogateescape')


def options_of(text: Optional[bytes]) -> Optional[dict[str, Any]]:
    """None where there are none; as in the scripts, what is no JSON object counts as not said."""
    value = _parsed(text)
    return value if isinstance(value, dict) else None


def list_of(text: Optional[bytes]) -> list[Any]:
    value = _parsed(text)
    return value if isinstance(value, list) else []


def _parsed(text: Optional[bytes]) -> Any:
    """None where it is no JSON."""
    try:
        return json.loads(text or b'')
    except (ValueError, RecursionError):
        return None
