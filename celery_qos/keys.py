"""How the Redis keys of a queue are spelled; ``lua/lib/keys.lua`` spells them alike.

Every key of a queue's shard starts with the same hash tag, so that the shard lives in one Redis Cluster slot.
"""

__all__ = ('GROUP', 'namespace', 'settings', 'egress', 'leases', 'slots', 'state', 'ready', 'finish', 'waiting',
           'transient', 'tenant_stream')

#: The consumer group on egress that all workers belong to.
GROUP = 'workers'


def namespace(queue: str, prefix: str = '', shard: int = 0) -> str:
    """The tag all keys of a queue's shard begin with."""
    return f'{{{prefix}qos:{queue}:{shard}}}'


def settings(ns: str) -> str:
    """Hash: schema version, and the weights from the config and from run time. Outlives an idle queue."""
    return f'{ns}:settings'


def egress(ns: str) -> str:
    """Stream: tasks delivered or about to be."""
    return f'{ns}:egress'


def leases(ns: str) -> str:
    """Sorted set: consumer name by the end of its lease, in ms of the server's clock."""
    return f'{ns}:leases'


def slots(ns: str) -> str:
    """Hash: consumer name to its number of slots."""
    return f'{ns}:slots'


def state(ns: str) -> str:
    """Hash: total slots, total waiting tasks, virtual time."""
    return f'{ns}:state'


def ready(ns: str) -> str:
    """Sorted set: backlogged tenant by start tag."""
    return f'{ns}:ready'


def finish(ns: str) -> str:
    """Sorted set: drained tenant by finish tag, kept until virtual time has passed it."""
    return f'{ns}:finish'


def waiting(ns: str) -> str:
    """Hash: tenant to its number of waiting tasks."""
    return f'{ns}:waiting'


def transient(ns: str) -> str:
    """String: present while the queue is one of Kombu's own reply queues, which stay Redis lists."""
    return f'{ns}:transient'


def tenant_stream(ns: str, tenant: str, priority: int = 0) -> str:
    """Stream: one tenant's waiting tasks of one priority, oldest first."""
    return f'{ns}:tenant:{priority}:{tenant}'
