"""A collector for a registry of prometheus-client: what the queues of an app look like when somebody asks."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from kombu.log import get_logger
from prometheus_client.registry import Collector as PrometheusCollector
from redis.exceptions import ResponseError

from ..app import Control
from ..errors import QoSError
from ..notices import reason
from .families import Families
from .kept import Kept
from .reading import QueueReading, TenantsReading, read_memory, read_queue, read_tenants
from .samples import add_queue, add_tenants

if TYPE_CHECKING:
    from celery import Celery

__all__ = ('Collector',)

logger = get_logger(__name__)

#: Seconds for which what was read is as good as new: two servers of Prometheus cost what one does.
MAX_AGE = 1.0
#: Seconds that a scrape waits for Redis; Prometheus gives up after 10 by default.
PATIENCE = 5.0
#: Seconds that a scrape waits for the tenants: later ones get them.
TENANTS_PATIENCE = 1.0
#: Part of the time that may be spent looking at tenants: a million of them are looked at less often.
TENANTS_SHARE = 0.1


class _Reading(NamedTuple):
    """All queues that could be read."""

    queues: list[QueueReading]
    #: That Redis uses, and may use.
    memory: tuple[Optional[int], Optional[int]]
    #: What was wrong with one that could not.
    error: str


class Collector(PrometheusCollector):
    """Reads the queues of `app` from Redis; it writes nothing there.

    Arguments:
        queues: names of Celery queues; by default those that the app is configured with.
        top: of so many tenants of each queue, those with most tasks waiting, there are samples; the others are summed.
            0 for none: tenants are not looked at.
        tenants_every: seconds between two looks at the tenants, at least. Each looks at all of them.
    """

    def __init__(self, app: Celery, queues: Iterable[str] = (), top: int = 20, tenants_every: float = 30.0) -> None:
        self._control = Control(app)
        self._queues = list(queues)
        self._top = top
        self._reader: Kept[_Reading] = Kept(self._read, MAX_AGE, PATIENCE)
        self._tenants: Kept[dict[str, TenantsReading]] = Kept(
            self._read_tenants, tenants_every, TENANTS_PATIENCE, TENANTS_SHARE)
        self._failing = False

    def describe(self) -> Iterable[Any]:
        """All that `collect` may return: to register the collector asks Redis nothing."""
        return Families()

    def collect(self) -> Iterable[Any]:
        began = monotonic()
        families = Families()
        answer, fresh = self._reader.get()
        value = answer.value if answer and fresh else None
        error = answer.error if answer and fresh else f'no answer from Redis within {PATIENCE:g} s'
        if value is not None:
            error = value.error
            for reading in value.queues:
                add_queue(families, reading)
            used, most = value.memory
            families.add('redis_memory_used_bytes', used)
            families.add('redis_memory_max_bytes', most)
            error = self._add_tenants(families) or error
        families.add('up', not error)
        families.add('scrape_duration_seconds', monotonic() - began)
        self._say(error)
        return families

    def _say(self, error: str) -> None:
        if error and not self._failing:
            logger.warning('metrics: cannot read the queues (%s); celery_qos_up is 0 until that works', error)
        elif self._failing and not error:
            logger.info('metrics: the queues can be read again')
        self._failing = bool(error)

    def _names(self) -> Sequence[str]:
        return self._queues or self._control.queues

    def _read(self) -> _Reading:
        found, error = [], ''
        with self._control._store() as store:
            memory = read_memory(store)
            for queue in self._names():
                try:
                    found.append(read_queue(store, queue))
                except (ResponseError, QoSError) as exc:        # the others are well
                    error = f'queue {queue!r}: {reason(exc)}'
        return _Reading(found, memory, error)

    def _read_tenants(self) -> dict[str, TenantsReading]:
        with self._control._store() as store:
            return {queue: read_tenants(store, queue, self._top) for queue in self._names()}

    def _add_tenants(self, families: Families) -> str:
        """Returns what went wrong."""
        if not self._top:
            return ''
        answer, _ = self._tenants.get()
        if answer is None:
            return ''
        if answer.value is not None:
            families.add('tenants_age_seconds', monotonic() - answer.at)
            for reading in answer.value.values():
                add_tenants(families, reading)
        return answer.error
