"""What a Celery app calls: `setup` its queues' options, `control` them at run time."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional

from .config import Config, QoS, check_weight

if TYPE_CHECKING:
    from celery import Celery

    from .store import Store

__all__ = ('setup', 'control', 'Control')


def setup(app: Celery, qos: Optional[QoS] = None, queues: Optional[Mapping[str, QoS]] = None) -> None:
    """Configure the queues of `app`. Optional: every option has a default.

    Arguments:
        qos: for every queue that `queues` does not name.
        queues: a Celery queue's name to its own options.

    Raises:
        ConfigError: an option is unknown or has a value it cannot have.
    """
    data = Config.build(qos, queues).as_data()
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), 'qos': data}


def control(app: Celery) -> Control:
    """Read and change what the queues of `app` do, at run time."""
    return Control(app)


class Control:
    """Settings at run time. They are kept in Redis, win over the config, and act on tasks that already wait."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def weight(self, tenant: Any, queue: Optional[str] = None) -> float:
        """The tenant's weight in force."""
        with self._store() as store:
            return store.weight(self._queue(queue), str(tenant))

    def set_weight(self, tenant: Any, weight: Optional[float], queue: Optional[str] = None) -> None:
        """Set the tenant's weight; None goes back to the config's.

        Raises:
            ConfigError: `weight` cannot be a weight.
        """
        if weight is not None:
            check_weight(weight)
        with self._store() as store:
            store.set_weight(self._queue(queue), str(tenant), weight)

    def _queue(self, queue: Optional[str]) -> str:
        return queue or self.app.conf.task_default_queue

    @contextmanager
    def _store(self) -> Iterator[Store]:
        with self.app.pool.acquire(block=True) as connection:
            yield connection.default_channel.store
