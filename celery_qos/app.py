"""What a Celery app calls: `setup` its queues' options, `control` them at run time."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Optional, Union

from .checks import unknown_queue
from .config import Config, Egress, QoS, SubQueue, Tenant
from .dead_letters import DeadLetters
from .delayed import DelayedTasks
from .errors import ConfigError
from .look import Look
from .moves import Move, Moved
from .observe import QueueStatus, TenantStatus, Why
from .observe.status import status_of
from .observe.tenants import tenants_of
from .observe.waits import each_tenant_waits, totals
from .observe.why import why_not_here, why_task, why_tenant
from .options import Options
from .overrides import overrides, stored_as
from .path import SEPARATOR, key_of, parse_path

if TYPE_CHECKING:
    from celery import Celery

    from .store import Store

__all__ = ('setup', 'control', 'Control')

#: Called with how many were looked at, and of how many.
Progress = Callable[[int, int], None]


def setup(app: Celery, qos: Optional[QoS] = None, queues: Optional[Mapping[str, QoS]] = None,
          current_tenant: Union[None, str, Callable[[], Any]] = None) -> None:
    """Configure the queues of `app`. Optional: every option has a default.

    Arguments:
        qos: for every queue that `queues` does not name.
        queues: a Celery queue's name to its own options.
        current_tenant: says whose request is served just now: a callable without arguments that returns a tenant key
            or None, or its import path. It is asked for a task of which nothing else says it.

    Raises:
        ConfigError: an option is unknown or has a value it cannot have.
    """
    data = Config.build(qos, queues, current_tenant).as_data()
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), 'qos': data}


def control(app: Celery) -> Control:
    """Read and change what the queues of `app` do, at run time."""
    return Control(app)


class Control:
    """Options at run time. They are kept in Redis, win over the config, and act on tasks that already wait.

    Each pair of methods reads or sets the options that the class of that name has. An option that is set to None is
    again what the config says; infinity lifts a `capacity`, a `max_in_flight` or a `rate`. `queue` is a Celery queue,
    by default the app's default queue.

    Arguments:
        seconds: for which a change of options may keep its caller: where very many tasks wait, workers do the rest.

    Raises:
        ConfigError: there is no such option, or it cannot have that value.
        TenantKeyError: there can be no such tenant.
        QoSError: an earlier change was not over within `seconds`.
    """

    def __init__(self, app: Celery, seconds: float = inf) -> None:
        self.app, self.seconds = app, seconds

    def tenant(self, tenant: Any, queue: Optional[str] = None) -> dict[str, Any]:
        """What the tenant is entitled to."""
        return self._read(Tenant, f'tenant:{parse_path(tenant)}', queue)

    def set_tenant(self, tenant: Any, queue: Optional[str] = None, **options: Any) -> None:
        """Such as ``set_tenant('acme', weight=3, rate='100/m')``, or ``paused=True``."""
        self._check_sub_queue(options.get('sub_queue'), queue)
        self._set(Tenant, f'tenant:{parse_path(tenant)}', queue, options)

    def default_tenant(self, queue: Optional[str] = None) -> dict[str, Any]:
        """What a tenant is entitled to that is neither configured nor set by name."""
        return self._read(Tenant, 'default', queue)

    def set_default_tenant(self, queue: Optional[str] = None, **options: Any) -> None:
        self._check_sub_queue(options.get('sub_queue'), queue)
        self._set(Tenant, 'default', queue, options)

    def sub_queues(self, queue: Optional[str] = None) -> dict[str, dict[str, Any]]:
        """The options of each sub-queue, in declared order."""
        with self._store() as store:
            names = store.sub_queues(self._queue(queue))
        return {name: self._read_sub_queue(name, queue) for name in names}

    def sub_queue(self, name: str, queue: Optional[str] = None) -> dict[str, Any]:
        self._check_sub_queue(name, queue)
        return self._read_sub_queue(name, queue)

    def _read_sub_queue(self, name: str, queue: Optional[str]) -> dict[str, Any]:
        options = self._read(SubQueue, f'sub:{name}', queue)
        for half in 'ingress', 'egress':
            options[f'{half}_weight'] = options.pop(half, None)
        del options['name'], options['weight']
        return options

    def set_sub_queue(self, name: str, queue: Optional[str] = None, **options: Any) -> None:
        self._check_sub_queue(name, queue)
        self._set(SubQueue, f'sub:{name}', queue, options)

    def queue(self, queue: Optional[str] = None) -> dict[str, Any]:
        """The queue's own options, and how many tasks may wait in its sub-queues in all; None for any number."""
        capacities = [options['capacity'] for options in self.sub_queues(queue).values()]
        options = self._read(QoS, 'queue', queue)
        return {**{name: options[name] for name in ('algorithm', 'max_deliveries', 'max_dead_letters')},
                'capacity': sum(capacities) if capacities and None not in capacities else None}

    def set_queue(self, queue: Optional[str] = None, **options: Any) -> None:
        """The queue's `algorithm`, `max_deliveries` or `max_dead_letters`."""
        self._set(QoS, 'queue', queue, options)

    def egress(self, queue: Optional[str] = None) -> dict[str, Any]:
        options = self._read(Egress, 'queue', queue)
        return {name: options[name] for name in Egress.__dataclass_fields__}

    def set_egress(self, queue: Optional[str] = None, **options: Any) -> None:
        self._set(Egress, 'queue', queue, options)

    def configure(self, qos: QoS, queue: Optional[str] = None) -> None:
        """Have the queue work by another config, though it is at work: other algorithms, other sub-queues.

        What waits is served on. Processes that are started later must have the new config.
        """
        with self._store() as store:
            store.declare(self._queue(queue), qos.fingerprint, qos.stored, qos.structure, force=True)

    def set_at_run_time(self, of: str, name: Any = None, queue: Optional[str] = None) -> dict[str, Any]:
        """Those options that do not come from the config, such as ``set_at_run_time('tenant', 'acme')``.

        Arguments:
            of: ``tenant``, ``default_tenant``, ``sub_queue``, ``queue`` or ``egress``.
            name: of the tenant or the sub-queue.
        """
        stored_of = {'tenant': lambda: f'tenant:{parse_path(name)}', 'default_tenant': lambda: 'default',
                     'sub_queue': lambda: f'sub:{name}'}.get(of, lambda: 'queue')()
        with self._store() as store:
            return _named(of, store.overridden(self._queue(queue), stored_of))

    def all_set_at_run_time(self, queue: Optional[str] = None) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """All options of the queue that do not come from the config, in no order.

        Each is of what, and its name, as `set_at_run_time` takes them, and the options.
        """
        with self._store() as store:
            for stored_of, found in Look(store).set_at_run_time(self._queue(queue)):
                what, _, name = stored_of.partition(':')
                key = key_of(name) if what == 'tenant' else name or None
                for of in {'sub': ['sub_queue'], 'default': ['default_tenant'], 'queue': ['queue', 'egress']}.get(
                        what, [what]):
                    if options := _named(of, found):
                        yield of, key, options

    def is_known(self, tenant: Any, queue: Optional[str] = None) -> bool:
        """Whether the tenant, or one inside it, has tasks or had some lately, or options of its own."""
        path = parse_path(tenant)
        with self._store() as store:
            name = self._queue(queue)
            if why_tenant(store, name, tenant).state != 'unknown' or store.overridden(name, f'tenant:{path}'):
                return True
            lately = (each.partition(':')[2] for each, _ in each_tenant_waits(store.client, store.namespace(name)))
            return any(each == path or each.startswith(path + SEPARATOR) for each in lately)

    def waiting(self, tenant: Any, queue: Optional[str] = None) -> int:
        """How many tasks of the tenant, and of those inside it, wait in their streams."""
        with self._store() as store:
            return store.count_waiting(self._queue(queue), parse_path(tenant))

    def waiting_in(self, sub_queue: str, queue: Optional[str] = None) -> int:
        """How many tasks wait in the sub-queue."""
        self._check_sub_queue(sub_queue, queue)
        with self._store() as store:
            return store.count_waiting_in(self._queue(queue), sub_queue)

    def purge(self, tenant: Any, queue: Optional[str] = None,
              on_progress: Callable[[int], None] = lambda count: None) -> int:
        """Delete what waits of the tenant, and of those inside it; returns how many tasks.

        What a worker has, or is about to get, is left alone, and so are delayed tasks.

        Arguments:
            on_progress: called with how many more were deleted, now and then. What it raises ends the purge.
        """
        with self._store() as store:
            return store.purge_tenant(self._queue(queue), parse_path(tenant), on_progress)

    def purge_all(self, queue: Optional[str] = None, on_progress: Callable[[int], None] = lambda count: None) -> int:
        """Delete all that no worker holds yet, delayed tasks included; returns how many tasks."""
        with self._store() as store:
            return store.purge(self._queue(queue), on_progress)

    def size(self, queue: Optional[str] = None) -> Optional[int]:
        """Tasks that no worker holds yet, delayed ones included; None where Redis knows no such queue."""
        with self._store() as store:
            return store.size(self._queue(queue))

    def delayed(self, queue: Optional[str] = None) -> DelayedTasks:
        """The tasks that wait for their time: how many, which, and a way to cancel them."""
        return DelayedTasks(self._store, self._queue(queue))

    def dead_letters(self, queue: Optional[str] = None) -> DeadLetters:
        """What could not be delivered: how many, which, why, and a way to have it delivered again."""
        return DeadLetters(self._store, self._queue(queue))

    def counters(self, queue: Optional[str] = None) -> dict[tuple[str, str], int]:
        """What became of tasks that found no room: (`on_full`, sub-queue) to how many, since the queue exists."""
        with self._store() as store:
            return store.counters(self._queue(queue))

    # -- what is there right now

    @property
    def queues(self) -> list[str]:
        """The queues that the app is configured with."""
        return list(self.app.amqp.queues)

    def status(self, queue: Optional[str] = None) -> QueueStatus:
        """The queue at a glance, in a few commands, however many tenants there are."""
        with self._store() as store:
            return status_of(store, self._queue(queue))

    def delivered(self, queue: Optional[str] = None) -> int:
        """Tasks that workers were delivered since the queue exists; they tell of them every few seconds."""
        with self._store() as store:
            return totals(store.client, store.namespace(self._queue(queue)))[''].count

    def tenants(self, queue: Optional[str] = None, sort: str = 'waiting', top: Optional[int] = 20,
                match: str = '', progress: Optional[Progress] = None) -> list[TenantStatus]:
        """Tenants that have tasks waiting or in flight, or had some lately; the first ones in the order of `sort`.

        All are looked at, some in a call.

        Arguments:
            sort: one of `observe.SORTS`; the most comes first, names go by the alphabet.
            top: how many; None for all, which takes memory for all.
            match: a glob that their keys, joined by ``/``, must match.
            progress: called now and then with how many were looked at, and of how many.
        """
        with self._store() as store:
            return tenants_of(store, self._queue(queue), sort, top, match, progress)

    def why(self, subject: Any, queue: Optional[str] = None, kind: Optional[str] = None,
            progress: Optional[Progress] = None, timeout: float = 1.0) -> Why:
        """Why the task of this id, or the tenant of this key, waits, or what became of it.

        Arguments:
            kind: ``task`` or ``tenant``; by default a tenant that is known, else a task.
            progress: as of `tenants`; to look for a task, all that wait may have to be looked at.
            timeout: seconds in which workers may tell of a task that is in no queue; with 0, neither they nor the
                result backend are asked.
        """
        with self._store() as store:
            name = self._queue(queue)
            if kind != 'task':
                why = why_tenant(store, name, subject)
                if why.state != 'unknown' or kind == 'tenant' or not isinstance(subject, str):
                    return why
            why = why_task(store, name, subject, progress or (lambda looked, of: None))
        if why.state == 'unknown' and timeout:
            why = why_not_here(self.app, subject, timeout) or why
        if why.state == 'unknown' and kind is None:
            text = f'queue {name!r} has no task of this id, and knows no tenant of this name: {subject!r}'
            return Why('unknown', text, why.facts)
        return why

    def move(self, tenant: Any, to_tenant: Any = None, to_sub_queue: Optional[str] = None,
             to_queue: Optional[str] = None, queue: Optional[str] = None, sub_queue: Optional[str] = None,
             count: Optional[int] = None, task_ids: Iterable[str] = (), force: bool = False, dry_run: bool = False,
             progress: Optional[Progress] = None) -> Moved:
        """Move waiting tasks of the tenant, not of those inside it, to another tenant, sub-queue or queue.

        They go to its end in the order they are in, and keep their priority; their retries and children follow. What
        is interrupted can be done again. Delayed tasks stay.

        Arguments:
            sub_queue: only what waits in this one.
            count: how many at most; the first ones.
            task_ids: only these.
            force: beyond the capacity of where they go too.
            dry_run: only say how many would go.
            progress: called with how many went, and of how many.

        Raises:
            ConfigError: there is no such queue or sub-queue, or they are there already.
        """
        route = self.app.amqp.queues.get(to_queue) if to_queue else None
        move = Move(
            self._queue(queue), parse_path(tenant), None if to_tenant is None else parse_path(to_tenant), to_sub_queue,
            to_queue, (route.exchange.name, route.routing_key) if route else ('', to_queue or ''), sub_queue, count,
            frozenset(task_ids), force)
        with self.app.pool.acquire(block=True) as connection:
            channel = connection.default_channel
            for name in {move.queue, move.to_queue or move.queue}:
                # Nobody would serve what goes to a name that was mistyped.
                if name not in self.queues and channel.store.size(name) is None:
                    raise ConfigError(unknown_queue(name, self.queues))
                if not dry_run:
                    channel.declare(name)
            return move.run(channel.store, dry_run, progress or (lambda moved, of: None))

    def _queue(self, queue: Optional[str]) -> str:
        return queue or self.app.conf.task_default_queue

    def _read(self, kind: type[Options], of: str, queue: Optional[str]) -> dict[str, Any]:
        with self._store() as store:
            found = store.settings(self._queue(queue), of)
        defaults = {each: getattr(kind, each, None) for each in kind.__dataclass_fields__}
        return {**defaults, **found}

    def _set(self, kind: type[Options], of: str, queue: Optional[str], options: Mapping[str, Any]) -> None:
        from .store import FORGET

        forgotten = [name for name, value in options.items() if value is None]
        values = {stored: FORGET for name in forgotten for stored in stored_as(kind, name)}
        values.update(overrides(kind, {name: value for name, value in options.items() if value is not None}))
        with self._store() as store:
            store.declare(self._queue(queue))
            store.set(self._queue(queue), of, values, self.seconds)

    def _check_sub_queue(self, name: Optional[str], queue: Optional[str]) -> None:
        if name is None:
            return
        with self._store() as store:
            known = store.sub_queues(self._queue(queue))
        if name not in known:
            raise ConfigError(f'sub_queue: {name!r} is unknown in queue {self._queue(queue)!r}; '
                              f'it has {", ".join(map(repr, known)) or "none"}')

    @contextmanager
    def _store(self) -> Iterator[Store]:
        with self.app.pool.acquire(block=True) as connection:
            yield connection.default_channel.store


def _named(of: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the stored options that `of` has, by the names that they are set by."""
    if of == 'sub_queue':
        return {f'{each}_weight' if each in ('ingress', 'egress') else each: found[each] for each in found}
    kind: type[Options] = Egress if of == 'egress' else QoS if of == 'queue' else Tenant
    return {each: value for each, value in found.items() if each in kind.__dataclass_fields__}
