"""A process stores its config of a queue once: what it finds later, another process or an operator had a reason for."""
from __future__ import annotations

from typing import Any

from .config import Config
from .store import Store

__all__ = ('config_of', 'declare')

#: Options by their identity, and what was made of them: all connections of an app share one `Config`.
_configs: dict[int, tuple[Any, Config]] = {}
#: Programs that use Kombu alone may give each connection options of its own.
_MAX_CONFIGS = 100


def config_of(options: Any) -> Config:
    """As `Config.from_data`, the same object each time for options that are the same object and did not change."""
    config = Config.from_data(options)
    kept = _configs.get(id(options))
    if kept and kept[0] is options and kept[1] == config:
        return kept[1]
    if len(_configs) >= _MAX_CONFIGS:
        _configs.pop(next(iter(_configs)), None)
    _configs[id(options)] = options, config
    return config


def declare(store: Store, queue: str, config: Config) -> None:
    """Make the queue known; store what `config` says the first time, and where Redis has lost it.

    Otherwise each new connection of an older process would bring back what a newer one replaced, and a worker would
    end at the first lost connection after a change by `celery_qos.control(app).configure()`.

    Raises:
        SchemaMismatch, ConfigError: as `Store.declare`.
    """
    place = store.identity, queue
    if config.has(queue) and not (place in config.declared and store.is_configured(queue)):
        qos = config.of(queue)
        store.declare(queue, qos.fingerprint, qos.stored, qos.structure)
        config.declared.add(place)
    else:
        store.declare(queue)
