"""The options of a queue: frozen dataclasses, checked once, the same as objects and as plain data."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import wraps
from math import isfinite
from typing import Any, Optional, TypeVar, Union

from .errors import ConfigError

__all__ = ('QoS', 'Tenant', 'Config', 'ALGORITHMS')

T = TypeVar('T')

#: Names of the scheduling algorithms; each is a file in ``lua/policy/``.
ALGORITHMS = ('wrr',)
#: Turns are reckoned in floating point: beyond these, a turn could be lost in rounding and a tenant never come on.
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6


def check_positive(option: str, value: Any) -> None:
    """Raise `ConfigError` where `value` is not a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value <= 0:
        raise ConfigError(f'{option}: {value!r} is not a number above 0')


def check_weight(weight: Any) -> None:
    """Raise `ConfigError` where `weight` is not a number that turns can be reckoned with."""
    check_positive('weight', weight)
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise ConfigError(f'weight: {weight!r} is outside {MIN_WEIGHT:g} to {MAX_WEIGHT:g}')


def _check_names(cls: Any, names: Iterable[str]) -> None:
    known = [option.name for option in fields(cls)]
    for name in names:
        if name not in known:
            raise ConfigError(_unknown(f'{cls.__name__} option', name, known))


def _unknown(what: str, value: Any, known: Any) -> str:
    near = get_close_matches(str(value), known, n=1)
    hint = f'did you mean {near[0]!r}?' if near else 'one of ' + ', '.join(map(repr, known))
    return f'{what}: {value!r} is unknown; {hint}'


def _refuse_unknown(cls: type[T]) -> type[T]:
    """An option that the dataclass `cls` lacks is a `ConfigError` with the nearest name."""
    init = cls.__init__

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        _check_names(cls, kwargs)
        init(self, *args, **kwargs)

    cls.__init__ = checked      # type: ignore[method-assign]
    return cls


@_refuse_unknown
@dataclass(frozen=True)
class Tenant:
    """What one tenant is entitled to."""

    #: Share of the workers while others wait too, relative to the other tenants' weights.
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)


@_refuse_unknown
@dataclass(frozen=True)
class QoS:
    """The options of a queue.

    Raises:
        ConfigError: an option is unknown or has a value it cannot have.
    """

    #: How the next tenant is chosen. ``wrr``: weighted round-robin.
    algorithm: str = 'wrr'
    #: Tenant key to what that tenant is entitled to.
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    #: What a tenant that `tenants` does not name is entitled to.
    default_tenant: Tenant = Tenant()
    #: Seconds after which a worker that gave no sign of life loses its slots, and its tasks are delivered again.
    lease_seconds: float = 15.0
    #: Slots of a worker that sets no limit on prefetching (``worker_prefetch_multiplier = 0``).
    unlimited_prefetch: int = 1000

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(_unknown('algorithm', self.algorithm, ALGORITHMS))
        if not isinstance(self.tenants, Mapping):
            raise ConfigError(f'tenants: {self.tenants!r} is not a mapping of tenant keys to options')
        for tenant in self.tenants.values():
            if not isinstance(tenant, Tenant):
                raise ConfigError(f'tenants: {tenant!r} is not a Tenant')
        if not isinstance(self.default_tenant, Tenant):
            raise ConfigError(f'default_tenant: {self.default_tenant!r} is not a Tenant')
        check_positive('lease_seconds', self.lease_seconds)
        if self.lease_seconds < 1:
            raise ConfigError(f'lease_seconds: {self.lease_seconds!r} is below 1; a worker could not renew in time')
        if isinstance(self.unlimited_prefetch, bool) or not isinstance(self.unlimited_prefetch, int) \
                or self.unlimited_prefetch < 1:
            raise ConfigError(f'unlimited_prefetch: {self.unlimited_prefetch!r} is not a whole number above 0')

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> QoS:
        """The options given as plain data (Django settings, YAML, environment)."""
        options = _mapping(cls, data)
        if isinstance(options.get('tenants'), Mapping):
            options['tenants'] = {str(key): _tenant(f'tenants[{key!r}]', value)
                                  for key, value in options['tenants'].items()}
        if 'default_tenant' in options:
            options['default_tenant'] = _tenant('default_tenant', options['default_tenant'])
        return cls(**options)

    def as_data(self) -> dict[str, Any]:
        """The same as plain data; `from_data` reads it back."""
        return asdict(self)

    @property
    def stored(self) -> dict[str, float]:
        """What the scripts need of it: field and value of the settings hash."""
        weights: dict[str, float] = {f'weight:{key}': float(tenant.weight) for key, tenant in self.tenants.items()}
        return {'default:weight': float(self.default_tenant.weight), **weights}

    @property
    def fingerprint(self) -> str:
        """Differs where `stored` differs."""
        return hashlib.sha256(json.dumps(self.stored, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Config:
    """The options of all queues of a broker connection."""

    default: QoS = QoS()
    queues: Mapping[str, QoS] = field(default_factory=dict)
    #: False where nothing was configured, so that this process leaves alone what others stored.
    explicit: bool = False

    def of(self, queue: str) -> QoS:
        return self.queues.get(queue, self.default)

    def declaration(self, queue: str) -> tuple[str, dict[str, float]]:
        """Fingerprint and settings for `Store.declare`; without a config, those that leave what others stored."""
        qos = self.of(queue)
        return (qos.fingerprint, qos.stored) if self.explicit else ('', {})

    @property
    def shortest_lease(self) -> float:
        return min(qos.lease_seconds for qos in (self.default, *self.queues.values()))

    @classmethod
    def build(cls, default: Optional[QoS] = None, queues: Optional[Mapping[str, QoS]] = None) -> Config:
        for name, qos in (queues or {}).items():
            if not isinstance(qos, QoS):
                raise ConfigError(f'queues[{name!r}]: {qos!r} is not a QoS')
        return cls(default or QoS(), dict(queues or {}), explicit=bool(default or queues))

    @classmethod
    def from_data(cls, data: Union[None, QoS, Mapping[str, Any]]) -> Config:
        """What ``broker_transport_options['qos']`` holds: a `QoS`, or plain data with the key ``queues`` beside it."""
        if data is None:
            return cls()
        if isinstance(data, QoS):
            return cls.build(data)
        if not isinstance(data, Mapping):
            raise ConfigError(f'qos: {data!r} is neither a QoS nor a mapping of options')
        options = dict(data)
        queues = options.pop('queues', None) or {}
        if not isinstance(queues, Mapping):
            raise ConfigError(f'queues: {queues!r} is not a mapping of queue names to options')
        return cls.build(QoS.from_data(options) if options else None, {
            name: qos if isinstance(qos, QoS) else QoS.from_data(qos) for name, qos in queues.items()})

    def as_data(self) -> dict[str, Any]:
        return {**self.default.as_data(), 'queues': {name: qos.as_data() for name, qos in self.queues.items()}}


def _tenant(option: str, value: Any) -> Tenant:
    if isinstance(value, Tenant):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f'{option}: {value!r} is not a mapping of options such as {{"weight": 2}}')
    try:
        return Tenant(**_mapping(Tenant, value))
    except ConfigError as exc:
        raise ConfigError(f'{option}: {exc}') from None


def _mapping(cls: type, data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f'{cls.__name__}: {data!r} is not a mapping of options')
    _check_names(cls, data)
    return dict(data)
