"""How the Redis keys of a queue are spelled; ``lua/lib/keys.lua`` spells them alike.

Every key of a queue's shard starts with the same hash tag, so that the shard lives in one Redis Cluster slot.
"""

__all__ = ('GROUP', 'PART', 'ROOT', 'namespace', 'settings', 'egress', 'leases', 'slots', 'state', 'waiting', 'parked',
           'lendable', 'woken', 'moving', 'in_flight', 'tokens', 'averages', 'delayed', 'delayed_tasks', 'discarded',
           'dead', 'published', 'waits', 'sweepers', 'bell', 'transient', 'ready', 'finish', 'owing', 'aside',
           'running', 'tenant_stream', 'tenant_id')

#: The consumer group on egress that all workers belong to.
GROUP = 'workers'
#: Between the parts of a tenant's path; no part has a character that is not printable.
PART = '\x1f'
#: The node of the scheduling tree above the sub-queues.
ROOT = PART


def namespace(queue: str, prefix: str = '', shard: int = 0) -> str:
    """The tag all keys of a queue's shard begin with."""
    return f'{{{prefix}qos:{queue}:{shard}}}'


def tenant_id(tenant: str, sub_queue: str = '') -> str:
    """What a tenant is called in the scheduling tree; `tenant` is its path."""
    return f'{sub_queue}:{tenant}'


def settings(ns: str) -> str:
    """Hash: schema version, the options from the config and from run time, counters. Outlives an idle queue."""
    return f'{ns}:settings'


def egress(ns: str, stream: int = 0) -> str:
    """Stream: tasks delivered or about to be; one of as many as `Egress.streams` says."""
    return f'{ns}:egress:{stream}' if stream else f'{ns}:egress'


def leases(ns: str) -> str:
    """Sorted set: consumer name by the end of its lease, in ms of the server's clock."""
    return f'{ns}:leases'


def slots(ns: str) -> str:
    """Hash: consumer name to its number of slots."""
    return f'{ns}:slots'


def state(ns: str) -> str:
    """Hash: total slots, total waiting tasks, virtual time of each node."""
    return f'{ns}:state'


def waiting(ns: str) -> str:
    """Hash: tenant id, and sub-queue where there are any, to its number of waiting tasks."""
    return f'{ns}:waiting'


def parked(ns: str) -> str:
    """Sorted set: id with waiting tasks that a limit keeps from being served, by when that ends, in ms, or infinite."""
    return f'{ns}:parked'


def lendable(ns: str) -> str:
    """Sorted set: parked id that may borrow slots which would stay idle, by how many it has borrowed."""
    return f'{ns}:lendable'


def woken(ns: str) -> str:
    """Sorted set: those that were parked when a limit of all changed and do not contend again yet."""
    return f'{ns}:woken'


def moving(ns: str) -> str:
    """Hash: node of which not all go by changed settings yet to what is to be done, as JSON."""
    return f'{ns}:moving'


def in_flight(ns: str) -> str:
    """Hash: tenant or sub-queue to its number of tracked tasks, delivered or running."""
    return f'{ns}:in_flight'


def tokens(ns: str) -> str:
    """Hash: tenant or sub-queue with a rate to its tokens, and of when, in ms. Expires when all buckets are full."""
    return f'{ns}:tokens'


def averages(ns: str) -> str:
    """Hash: tenant or sub-queue to the seconds that its tasks took lately."""
    return f'{ns}:averages'


def delayed(ns: str) -> str:
    """Sorted set: place of a delayed task (a number and the task's id) by when it is due, in ms."""
    return f'{ns}:delayed'


def delayed_tasks(ns: str) -> str:
    """Hash: a number from 1 and a task's id to a message that was published under it and is delayed, packed."""
    return f'{ns}:delayed_tasks'


def discarded(ns: str) -> str:
    """Stream: tasks that expired or were cancelled, until a worker has told Celery so."""
    return f'{ns}:discarded'


def dead(ns: str) -> str:
    """Stream: dead letters, with the reason."""
    return f'{ns}:dead'


def published(ns: str, turn: int) -> str:
    """Hash: ids of messages that were published lately. Two of them take turns, and expire."""
    return f'{ns}:published:{turn}'


def waits(ns: str, minute: int) -> str:
    """Hash: how long tasks waited that were delivered in this minute of the server's clock, in buckets; expires.

    `since`: when the first of them was noted, in ms. ``<bucket>|<id>``: how many tasks of the tenant, of the sub-queue
    (its name) or of the whole queue (`ROOT`) waited so long. ``ms|<id>``: for how long those of the latter two waited
    together.
    """
    return f'{ns}:waits:{minute}'


def sweepers(ns: str) -> str:
    """Sorted set: member that sweeps by the end of its right to, in ms."""
    return f'{ns}:sweepers'


def bell(ns: str) -> str:
    """List: has an element when a sweep loop that sleeps must look."""
    return f'{ns}:bell'


def transient(ns: str) -> str:
    """String: present while the queue is one of Kombu's own reply queues, which stay Redis lists."""
    return f'{ns}:transient'


def ready(ns: str, node: str = '') -> str:
    """Sorted set: children of a node that may be served by start tag."""
    return _of_node(ns, 'ready', node)


def finish(ns: str, node: str = '') -> str:
    """Sorted set: children of a node that are not ready by finish tag, kept until virtual time has passed it."""
    return _of_node(ns, 'finish', node)


def owing(ns: str, node: str = '') -> str:
    """Hash: child of a node that is not ready, with tasks in flight whose cost is not known yet, to its finish tag."""
    return _of_node(ns, 'owing', node)


def aside(ns: str, kind: str, node: str = '') -> str:
    """What was of this kind (`ready`, `finish`, `owing`) in a node when a change began, and does not go by it yet.

    Of kind `own`, a hash: tenant id to the options that it had before, as JSON.
    """
    return _of_node(ns, f'aside:{kind}', node)


def running(ns: str, consumer: str) -> str:
    """Hash: tracked entry that a consumer acknowledged and still runs to its tenant's id."""
    return f'{ns}:running:{consumer}'


def tenant_stream(ns: str, tenant: str, priority: int = 0, sub_queue: str = '') -> str:
    """Stream: one tenant's waiting tasks of one priority, oldest first."""
    return f'{ns}:tenant:{priority}:{tenant_id(tenant, sub_queue)}'


def _of_node(ns: str, kind: str, node: str) -> str:
    return f'{ns}:{kind}' if node == ROOT else f'{ns}:{kind}:{node}'
