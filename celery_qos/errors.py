"""The exceptions that celery-qos raises.

::

    QoSError
    ├── ConfigError         an option is unknown, malformed or contradicts another
    ├── TenantKeyError      a tenant key cannot be used
    ├── QueueFull           as many tasks wait as may
    ├── SchemaMismatch      the keys in Redis were written by another version
    └── UnsupportedServer   the Redis server lacks a command that is needed

None of them is a connection error: retrying does not help, so Kombu and Celery let them through to the caller.
"""

__all__ = ('QoSError', 'ConfigError', 'TenantKeyError', 'QueueFull', 'SchemaMismatch', 'UnsupportedServer')


class QoSError(Exception):
    """Base of every exception that celery-qos raises."""


class ConfigError(QoSError):
    """An option is unknown, malformed or contradicts another; the text names it, its value and the remedy."""


class TenantKeyError(QoSError):
    """A tenant key cannot be used; raised where the task is published."""


class QueueFull(QoSError):
    """As many tasks wait as may, and the task was not taken; raised where it is published.

    Attributes:
        queue: the queue's name.
        sub_queue: the sub-queue's name; '' where the queue has none.
        tenant: the tenant's path; '' is the empty tenant.
        capacity: how many tasks may wait.
    """

    def __init__(self, queue: str, sub_queue: str, tenant: str, capacity: int) -> None:
        super().__init__(queue, sub_queue, tenant, capacity)
        self.queue, self.sub_queue, self.tenant, self.capacity = queue, sub_queue, tenant, capacity

    def __str__(self) -> str:
        sub_queue = f', sub-queue {self.sub_queue!r}' if self.sub_queue else ''
        return (
            f'queue {self.queue!r}{sub_queue}, tenant {self.tenant!r}: {self.capacity} tasks wait, which is its '
            f"capacity: publish again later, raise capacity, or choose on_full 'drop-oldest' or 'dead-letter'"
        )


class SchemaMismatch(QoSError):
    """A queue's keys in Redis follow another schema version than this release.

    Attributes:
        queue: the queue's name.
        stored: the version found in Redis.
        expected: the version this release writes.
    """

    def __init__(self, queue: str, stored: str, expected: str) -> None:
        super().__init__(queue, stored, expected)
        self.queue, self.stored, self.expected = queue, stored, expected

    def __str__(self) -> str:
        return (
            f'queue {self.queue!r} is stored with schema version {self.stored}, this celery-qos uses version '
            f'{self.expected}: run one release on all producers and workers, or drain and delete the queue first'
        )


class UnsupportedServer(QoSError):
    """The Redis server is older than celery-qos can work with."""
