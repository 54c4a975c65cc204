"""The options of a queue: frozen dataclasses, checked once, the same as objects and as plain data."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Optional, Union

from . import checks, evaluators
from .checks import optional, unknown, whole, within
from .errors import ConfigError, TenantKeyError
from .imported import imported
from .options import Options, instance, option
from .path import parse_path

__all__ = ('QoS', 'SubQueue', 'Egress', 'Tenant', 'Config', 'ALGORITHMS', 'ON_FULL')

#: Names of the scheduling algorithms; each is a file in ``lua/policy/``.
ALGORITHMS = ('pq', 'rr', 'wrr', 'dwrr')
#: What becomes of a task that finds no room.
ON_FULL = ('reject', 'dead-letter', 'drop-oldest')
#: Most sub-queues of a queue.
MAX_SUB_QUEUES = 1000
#: Most streams of an egress: a worker reads all of them at once.
MAX_STREAMS = 64
#: The option that says who knows the tenant of what is published just now.
CURRENT_TENANT = 'current_tenant'


@dataclass(frozen=True)
class Tenant(Options):
    """What one tenant is entitled to, over all sub-queues."""

    #: Share of the workers while others wait too, relative to the other tenants' weights.
    weight: float = option(1.0, checks.weight)
    #: Tasks that may wait; None for any number.
    capacity: Optional[int] = option(None, optional(whole()))
    #: Tasks that may be delivered or running at a time, over all workers; None for any number.
    max_in_flight: Optional[int] = option(None, optional(whole()))
    #: How many more than `max_in_flight` while slots would otherwise stay idle.
    burst: int = option(0, whole(0))
    #: Tasks that may start, such as ``'100/m'``, or a number per second; None for any number.
    rate: Union[None, str, float] = option(None, optional(checks.rate))
    #: Whether its tasks wait until this is lifted.
    paused: bool = option(False, checks.flag)
    #: What becomes of a task that finds `capacity` used up: one of `ON_FULL`.
    on_full: str = option('reject', checks.one_of(ON_FULL))
    #: The sub-queue of its tasks that name none.
    sub_queue: Optional[str] = option(None, optional(checks.sub_queue_name))


@dataclass(frozen=True)
class SubQueue(Options):
    """A class of service inside a queue."""

    #: None to be named by its place, from ``'0'`` on.
    name: Optional[str] = option(None, optional(checks.sub_queue_name))
    #: Tasks that may wait; mandatory.
    capacity: Optional[int] = option(None, optional(whole()))
    #: Stands in for `ingress_weight` and `egress_weight` where they are not given.
    weight: Optional[float] = option(None, optional(checks.weight))
    #: Share of the evaluator's 100 percent.
    ingress_weight: Optional[float] = option(None, optional(checks.weight))
    #: Share of the workers while other sub-queues have tasks too.
    egress_weight: Optional[float] = option(None, optional(checks.weight))
    #: How the next of its tenants is chosen.
    algorithm: str = option('wrr', checks.one_of(ALGORITHMS))
    #: As for a `Tenant`, over all of its tenants together.
    max_in_flight: Optional[int] = option(None, optional(whole()))
    burst: int = option(0, whole(0))
    rate: Union[None, str, float] = option(None, optional(checks.rate))
    paused: bool = option(False, checks.flag)
    on_full: str = option('reject', checks.one_of(ON_FULL))

    def __post_init__(self) -> None:
        super().__post_init__()
        this = 'a sub-queue' if self.name is None else f'sub-queue {self.name!r}'
        if self.capacity is None:
            raise ConfigError(f'capacity: {this} has none; say how many tasks may wait in it')
        for half in 'ingress_weight', 'egress_weight':
            if getattr(self, half) is None and self.weight is None:
                raise ConfigError(f'weight: {this} has no weight; give weight, or {half}')

    def changed(self) -> dict[str, Any]:
        options = super().changed()
        for name in 'name', 'weight', 'ingress_weight', 'egress_weight':
            options.pop(name, None)
        return {
            **options,
            'ingress': self.weight if self.ingress_weight is None else self.ingress_weight,
            'egress': self.weight if self.egress_weight is None else self.egress_weight,
        }


@dataclass(frozen=True)
class Egress(Options):
    """The short stream that workers read, and the loops that look after it."""

    #: Tasks that may be delivered or about to be at a time; None for the sum of the workers' slots.
    capacity: Optional[int] = option(None, optional(whole()))
    #: How many streams it is spread over.
    streams: int = option(1, whole(1, MAX_STREAMS))
    #: How many sweeping loops are at work at a time, over all workers.
    workers: int = option(1, whole())
    #: Iterations in a row that moved nothing after which such a loop blocks.
    idle_threshold: int = option(1, whole())
    #: Seconds that it blocks, unless a task arrives.
    idle_timeout: float = option(10.0, checks.number())


def _check_tenants(option: str, value: Any) -> dict[str, Tenant]:
    if not isinstance(value, Mapping):
        raise ConfigError(f'{option}: {value!r} is not a mapping of tenant keys to options')
    tenants: dict[str, Tenant] = {}
    for key, tenant in value.items():
        try:
            path = parse_path(key)
        except TenantKeyError as exc:
            raise ConfigError(f'{option}[{key!r}]: {exc}') from None
        if path in tenants:
            raise ConfigError(f'{option}[{key!r}]: this tenant is there twice')
        tenants[path] = instance(Tenant)(f'{option}[{key!r}]', tenant)
    return tenants


def _check_sub_queues(option: str, value: Any) -> tuple[SubQueue, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f'{option}: {value!r} is not a list of sub-queues')
    if len(value) == 1:
        raise ConfigError(f'{option}: {value!r} is one sub-queue, so there is nothing to choose between; '
                          f'declare two or more, or none')
    if len(value) > MAX_SUB_QUEUES:
        raise ConfigError(f'{option}: {len(value)} sub-queues are more than {MAX_SUB_QUEUES}; give each tenant a key')
    found: dict[str, SubQueue] = {}
    for index, each in enumerate(value):
        sub_queue = instance(SubQueue)(f'{option}[{index}]', each)
        name = str(index) if sub_queue.name is None else sub_queue.name
        if name in found:
            raise ConfigError(f'{option}[{index}]: the name {name!r} is taken; without one, the index is the name')
        found[name] = replace(sub_queue, name=name)
    return tuple(found.values())


def _check_evaluator(option: str, value: Any) -> Any:
    if isinstance(value, str):
        with within(option):
            evaluators.named(value)
    elif value is not None and (isinstance(value, type) or not callable(value)):
        raise ConfigError(f"{option}: {value!r} is not a callable of the task's message, nor the name of one")
    return value


@dataclass(frozen=True)
class QoS(Options):
    """The options of a queue.

    Raises:
        ConfigError: an option is unknown or has a value it cannot have.
    """

    #: How the next sub-queue is chosen; without sub-queues, how the next tenant is.
    algorithm: str = option('wrr', checks.one_of(ALGORITHMS))
    #: The sub-queues: none, or two and more; the last one takes what belongs to no other.
    queues: tuple[SubQueue, ...] = option((), _check_sub_queues)
    #: Says in percent how urgent a task is: a callable of its message, a name of `evaluators.NAMES`, or an import path.
    evaluator: Any = option(None, _check_evaluator)
    #: The stream that workers read.
    egress: Egress = option(Egress(), instance(Egress))
    #: Tenant key, or tuple of keys, to what that tenant is entitled to.
    tenants: Mapping[Any, Tenant] = option(dict, _check_tenants)
    #: What a tenant that `tenants` does not name is entitled to.
    default_tenant: Tenant = option(Tenant(), instance(Tenant))
    #: Seconds after which a worker that gave no sign of life loses its slots, and its tasks are delivered again.
    lease_seconds: float = option(15.0, checks.number(1))
    #: After how many deliveries that failed a task goes to the dead letters.
    max_deliveries: int = option(5, whole())
    #: Dead letters that are kept, about; then the oldest go.
    max_dead_letters: int = option(100_000, whole())
    #: Seconds within which a message that is published again, as the reply was lost, enters once; None for never.
    deduplication_seconds: Optional[float] = option(60.0, optional(checks.number(1)))
    #: Slots of a worker that sets no limit on prefetching (``worker_prefetch_multiplier = 0``).
    unlimited_prefetch: int = option(1000, whole())

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.names
        named = {f'tenants[{path!r}]': tenant for path, tenant in self.tenants.items()}
        for place, tenant in {**named, 'default_tenant': self.default_tenant}.items():
            if tenant.sub_queue is not None and tenant.sub_queue not in names:
                why = unknown('sub_queue', tenant.sub_queue, map(str, names)) if names else \
                    f'sub_queue: {tenant.sub_queue!r} is unknown; queues declares no sub-queues'
                raise ConfigError(f'{place}: {why}')
        if self.evaluator is not None and not names:
            raise ConfigError(f'evaluator: {self.evaluator!r} has nothing to choose between; declare sub-queues')

    @classmethod
    def from_data(cls, data: Any) -> QoS:
        """The options given as plain data; ``sub_queues`` is another name of ``queues``."""
        if isinstance(data, Mapping) and 'sub_queues' in data:
            if 'queues' in data:
                raise ConfigError('sub_queues: is another name of queues, which is given too; give one of them')
            data = {'queues' if name == 'sub_queues' else name: value for name, value in data.items()}
        return super().from_data(data)

    def as_data(self) -> dict[str, Any]:
        return {'sub_queues' if name == 'queues' else name: value for name, value in super().as_data().items()}

    @property
    def evaluate(self) -> Optional[Callable]:
        """The evaluator itself."""
        return evaluators.named(self.evaluator) if isinstance(self.evaluator, str) else self.evaluator

    @property
    def names(self) -> list[Optional[str]]:
        """Of the sub-queues, in declared order."""
        return [sub_queue.name for sub_queue in self.queues]

    @property
    def capacity(self) -> Optional[int]:
        """Tasks that may wait in all sub-queues together; None without sub-queues."""
        return sum(sub_queue.capacity or 0 for sub_queue in self.queues) if self.queues else None

    @property
    def stored(self) -> dict[str, str]:
        """What the scripts need of it: field and value, a JSON object, of the settings hash."""
        egress = self.egress.as_data()
        changed = self.changed()
        queue: dict[str, Any] = {**egress, 'algorithm': self.algorithm, 'queues': self.names,
                 **{name: changed[name] for name in ('max_deliveries', 'max_dead_letters') if name in changed}}
        if egress['capacity'] is None:
            del queue['capacity']
        settings: dict[str, Any] = {'queue': queue}
        if self.tenants:
            settings['order'] = list(self.tenants)
        settings.update((f'sub:{sub_queue.name}', sub_queue.changed()) for sub_queue in self.queues)
        settings.update((f'tenant:{path}', tenant.changed()) for path, tenant in self.tenants.items())
        default = self.default_tenant.changed()
        if default:
            settings['default'] = default
        return {name: _json(value) for name, value in settings.items()}

    @property
    def structure(self) -> dict[str, Any]:
        """What all producers and workers of the queue must agree on."""
        return {'algorithm': self.algorithm, 'streams': self.egress.streams,
                'queues': [[sub_queue.name, sub_queue.algorithm] for sub_queue in self.queues]}

    @property
    def fingerprint(self) -> str:
        """Differs where `stored` or `structure` differs."""
        return hashlib.sha256(_json([self.stored, self.structure]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Config:
    """The options of all queues of a broker connection."""

    default: QoS = QoS()
    queues: Mapping[str, QoS] = field(default_factory=dict)
    #: Says whose the tasks are that nobody says it of: a callable without arguments, or its import path.
    current_tenant: Any = None
    #: False where nothing was configured for queues that `queues` does not name: what others stored for them is left
    #: alone.
    explicit: bool = False
    #: Where this config was stored: a `Store.identity`, and a queue.
    declared: set[tuple[tuple, str]] = field(default_factory=set, compare=False, repr=False)

    def of(self, queue: str) -> QoS:
        return self.queues.get(queue, self.default)

    def has(self, queue: str) -> bool:
        """Whether it says anything about the queue."""
        return self.explicit or queue in self.queues

    @property
    def shortest_lease(self) -> float:
        return min(qos.lease_seconds for qos in (self.default, *self.queues.values()))

    @property
    def resolver(self) -> Optional[Callable[[], Any]]:
        """The callable that `current_tenant` is or names.

        Raises:
            ConfigError: it cannot be imported, or is no callable.
        """
        if not isinstance(self.current_tenant, str):
            return self.current_tenant
        with within(CURRENT_TENANT):
            return _callable(self.current_tenant)

    @classmethod
    def build(cls, default: Optional[QoS] = None, queues: Optional[Mapping[str, QoS]] = None,
              current_tenant: Any = None) -> Config:
        for name, qos in (queues or {}).items():
            if not isinstance(qos, QoS):
                raise ConfigError(f'queues[{name!r}]: {qos!r} is not a QoS')
        if not (current_tenant is None or isinstance(current_tenant, str) and ':' in current_tenant or
                not isinstance(current_tenant, type) and callable(current_tenant)):
            raise ConfigError(f"{CURRENT_TENANT}: {current_tenant!r} is neither a callable without arguments nor an "
                              f"import path, 'package.module:attribute'")
        return cls(default or QoS(), dict(queues or {}), current_tenant, explicit=default is not None)

    @classmethod
    def from_data(cls, data: Union[None, QoS, Mapping[str, Any]]) -> Config:
        """What ``broker_transport_options['qos']`` holds: a `QoS`, or plain data.

        ``queues`` in the data are Celery queues where it is a mapping, and sub-queues where it is a list.
        """
        if data is None:
            return cls()
        if isinstance(data, QoS):
            return cls.build(data)
        if not isinstance(data, Mapping):
            raise ConfigError(f'qos: {data!r} is neither a QoS nor a mapping of options')
        options = dict(data)
        current_tenant = options.pop(CURRENT_TENANT, None)
        _check_spelling(options)
        queues = options.get('queues')
        if isinstance(queues, Mapping) or not queues:
            options.pop('queues', None)
        elif isinstance(queues, (list, tuple)):
            queues = None
        else:
            raise ConfigError(f'queues: {queues!r} is neither a mapping of queue names to options '
                              f'nor a list of sub-queues')
        return cls.build(QoS.from_data(options) if options else None, {
            name: instance(QoS)(f'queues[{name!r}]', qos) for name, qos in (queues or {}).items()}, current_tenant)

    def as_data(self) -> dict[str, Any]:
        data = self.default.as_data() if self.explicit else {}
        if self.current_tenant is not None:
            data[CURRENT_TENANT] = self.current_tenant
        return {**data, 'queues': {name: qos.as_data() for name, qos in self.queues.items()}}


def _check_spelling(options: Mapping[Any, Any]) -> None:
    """Where an option may be meant that is of the connection and not of a `QoS`."""
    for name in options:
        if name not in QoS.__dataclass_fields__ and get_close_matches(str(name), [CURRENT_TENANT], cutoff=0.8):
            raise ConfigError(unknown('qos option', name, [CURRENT_TENANT]))


@lru_cache(maxsize=100)
def _callable(path: str) -> Callable[[], Any]:
    found = imported(path)
    if not callable(found) or isinstance(found, type):
        raise ConfigError(f'{path!r} is {found!r}, which is not a function')
    return found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(',', ':'))
