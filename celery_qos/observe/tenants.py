"""The tenants of a queue: those that matter most, whether there are ten or a million."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from .waits import Waits

__all__ = ('TenantStatus', 'SORTS')

#: What tenants can be sorted by, the most first: the attributes of that name; `wait` is the oldest task's.
SORTS = ('waiting', 'in_flight', 'wait', 'p50', 'p95', 'p99', 'rate', 'share', 'tenant')


@dataclass(frozen=True)
class TenantStatus:
    #: Its key, or the tuple of its keys; '' for the empty tenant.
    tenant: Union[str, tuple[str, ...]]
    #: '' where the queue has none.
    sub_queue: str
    waiting: int
    #: Tasks in egress; where they are counted until they end, those that run too.
    in_flight: int
    weight: float
    paused: bool
    #: Seconds that its oldest waiting task has waited; None where none waits.
    wait: Optional[float] = None
    #: Its tasks of the last minutes.
    waits: Waits = Waits()
    #: Its part of all tasks that the queue delivered in the last minutes, 0 to 1; None where there were none.
    share: Optional[float] = None
    #: The part that its weight gives it among those that wait now; None where it does not wait.
    entitlement: Optional[float] = None

    @property
    def rate(self) -> float:
        """Tasks delivered a second."""
        return self.waits.rate

    @property
    def p50(self) -> Optional[float]:
        """Half of its tasks of the last minutes waited at most so many seconds."""
        return self.waits.quantile(0.5)

    @property
    def p95(self) -> Optional[float]:
        return self.waits.quantile(0.95)

    @property
    def p99(self) -> Optional[float]:
        return self.waits.quantile(0.99)
