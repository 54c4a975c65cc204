"""What the processes of a run must know, and the settings of Celery that follow."""
from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ('Setup', 'TENANTS')

#: What tenants are entitled to, those that are not here have one share.
TENANTS: dict[str, dict[str, Any]] = {
    'heavy-1': {'weight': 1},
    'heavy-3': {'weight': 3},
    'capped': {'max_in_flight': 3},
    'rated': {'rate': 20},
    'paused': {'paused': True},
}
#: Name of the variable of the environment.
VARIABLE = 'QOS_CHAOS'


@dataclass(frozen=True)
class Setup:
    """What a process must know."""

    #: 'qos' or 'redis'.
    transport: str
    broker: str
    backend: str
    #: The ledger's unix socket.
    ledger: str
    lease_seconds: float
    #: Of the stock transport.
    visibility_timeout: float

    @classmethod
    def read(cls) -> Setup:
        return cls(**json.loads(os.environ[VARIABLE]))

    def environment(self) -> dict[str, str]:
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    @property
    def conf(self) -> dict[str, Any]:
        """Settings of Celery. What a task publishes (retries, chords) must not be lost with a broker that is away."""
        options: dict[str, Any] = {
            'socket_timeout': 5.0, 'socket_connect_timeout': 5.0,
            # A process that publishes for the first time gives up after this, and Celery drops the retry.
            'connect_retries_timeout': 60.0}
        if self.transport == 'qos':
            options['qos'] = {'lease_seconds': self.lease_seconds, 'tenants': TENANTS}
        else:
            options['visibility_timeout'] = self.visibility_timeout
        return {
            'broker_transport_options': options,
            'broker_connection_retry_on_startup': True,
            'broker_connection_max_retries': None,
            'task_ignore_result': True,
            'task_publish_retry_policy': {
                'max_retries': 300, 'interval_start': 0.1, 'interval_step': 0.1, 'interval_max': 0.5},
            # Longer than any run: with its count, a chord that waits would lose its body.
            'result_expires': 24 * 3600,
            'worker_prefetch_multiplier': 2,
            'worker_send_task_events': False,
            'worker_hijack_root_logger': True,
        }
