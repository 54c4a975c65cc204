"""The oracle: what a queue does, in plain Python, one method per script. Tasks are numbers, nothing is stored.

A tree of nodes: the sub-queues where there are any, their tenants, the tenants inside those. At each node the children
that can be served contend by start-time fair queueing: the least tag is next; one that comes starts at max(virtual
time, its finish tag); a turn sets virtual time to its start tag and the child's next start to start + what the
algorithm charges. Newcomers of one instant are set `TIE` apart, or as far as rounding needs, so that they go in the
order of arrival. Once nobody contends at a node its tags are forgotten. Who may not be served now is parked, out of
the contest.

In flight is what is tracked (its end is reported, because a limit or an algorithm needs it) and in egress or running.
"""
from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, Union

from celery_qos.config import QoS, SubQueue, Tenant

__all__ = ('Model', 'Task', 'Options', 'chain_of', 'ALGORITHMS', 'PART', 'ROOT', 'TIE', 'LIFTED')

TIE = 2.0 ** -30
#: Between the parts of a tenant's path.
PART = '\x1f'
#: The node above the sub-queues.
ROOT = PART
#: Where pq puts those that have no rank.
UNRANKED = 2.0 ** 20
#: What a task costs at least.
LEAST_SECONDS = 0.001
#: The value, set at run time, of a limit that does not hold.
LIFTED = None


@dataclass(eq=False)
class Task:
    """A task; in egress a redelivery is another one with the same number."""

    number: int
    #: The tenant's path.
    tenant: str
    priority: int = 5
    sub_queue: str = ''
    #: Seconds that it was taken to last when it was dispatched; None where its end need not be reported.
    cost: Optional[float] = None
    owner: Optional[str] = None
    redelivered: bool = False
    failures: int = 0

    @property
    def shape(self) -> tuple[int, Optional[str], bool, int]:
        return self.number, self.owner, self.redelivered, self.failures

    @property
    def subjects(self) -> set[str]:
        """What it counts for."""
        parts = self.tenant.split(PART)
        return {f'sub:{self.sub_queue}', *(f'tenant:{PART.join(parts[:i + 1])}' for i in range(len(parts)))}


@dataclass
class Node:
    """Where children contend."""

    #: Child that can be served to its start tag.
    ready: dict[str, float] = field(default_factory=dict)
    #: Child that cannot to its finish tag, unless virtual time has passed that.
    finish: dict[str, float] = field(default_factory=dict)
    #: The same of children whose tag is not final yet, by dwrr: some tasks of theirs have not ended.
    owing: dict[str, float] = field(default_factory=dict)
    virtual_time: Optional[float] = None
    #: Start tag of the last newcomer.
    newest: float = -1.0


@dataclass(frozen=True)
class Options:
    """What a tenant or a sub-queue may have."""

    weight: float = 1.0
    ingress: float = 1.0
    capacity: Optional[int] = None
    max_in_flight: Optional[int] = None
    burst: int = 0
    rate: Optional[float] = None
    paused: bool = False
    on_full: str = 'reject'
    sub_queue: Optional[str] = None
    algorithm: str = 'wrr'

    @classmethod
    def of(cls, configured: Union[Tenant, SubQueue, None]) -> Options:
        known = {each.name: getattr(configured, each.name) for each in fields(cls) if hasattr(configured, each.name)}
        if isinstance(configured, SubQueue):
            known.update(weight=configured.egress_weight or configured.weight,
                         ingress=configured.ingress_weight or configured.weight)
        return cls(**known)

    def set(self, overrides: dict[str, Any]) -> Options:
        return replace(self, **{'weight' if name == 'egress' else name: value for name, value in overrides.items()})

    @property
    def limited(self) -> bool:
        return self.paused or self.max_in_flight is not None or self.rate is not None


# -- the algorithms: what a turn of `child` costs it; None where its place does not change


def pq(model: Model, child: str, seconds: float) -> Optional[float]:
    return None if model.rank(child) else 1.0


def rr(model: Model, child: str, seconds: float) -> Optional[float]:
    return 1.0


def wrr(model: Model, child: str, seconds: float) -> Optional[float]:
    if ':' in child:
        return 1 / model.options(child).weight
    # Sub-queues have whole turns.
    return 1 / max(1, int(model.options(child).weight / model.least_weight + 0.5))


def dwrr(model: Model, child: str, seconds: float) -> Optional[float]:
    return seconds / model.options(child).weight


ALGORITHMS: dict[str, Callable[[Model, str, float], Optional[float]]] = {'pq': pq, 'rr': rr, 'wrr': wrr, 'dwrr': dwrr}


# -- ids: `sub` or `sub:path`; the own tasks of a tenant with others inside are in a child, `sub:path` and an empty part


def subject_of(child: str) -> str:
    """A tenant is the same one in every sub-queue."""
    sub, colon, path = child.partition(':')
    return f'tenant:{path}' if colon else f'sub:{sub}'


def chain_of(child: str, rooted: bool) -> list[str]:
    """The ids from the top of the tree down to `child`."""
    sub, colon, path = child.partition(':')
    parts = path.split(PART) if colon else []
    tenants = [f'{sub}:{PART.join(parts[:i + 1])}' for i in range(len(parts))]
    return [sub, *tenants] if rooted else tenants


@dataclass
class Model:
    """One queue."""

    qos: QoS = QoS()
    #: Whose (``queue``, ``default``, ``sub:name``, ``tenant:path``) options are set at run time, to option and value.
    overrides: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    #: Whether the top of the tree are sub-queues.
    rooted: bool = False
    #: Id, then priority, to the waiting tasks.
    waiting: dict[str, dict[int, deque[Task]]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=lambda: defaultdict(Node))
    parked: set[str] = field(default_factory=set)
    #: Subjects that used up their only token.
    spent: set[str] = field(default_factory=set)
    #: Subject to the seconds that its tasks took lately.
    averages: dict[str, float] = field(default_factory=dict)
    #: Stream to its tasks.
    egress: dict[int, list[Task]] = field(default_factory=lambda: defaultdict(list))
    #: Consumer to tasks that it acknowledged early.
    running: dict[str, list[Task]] = field(default_factory=lambda: defaultdict(list))
    slots: dict[str, int] = field(default_factory=dict)
    #: Consumer to whether its lease has ended.
    leases: dict[str, bool] = field(default_factory=dict)
    #: Numbers of dead letters.
    dead: list[int] = field(default_factory=list)
    #: (on_full, sub-queue) to how many tasks found no room.
    refused: Counter = field(default_factory=Counter)

    # -- what the options say

    @property
    def queue(self) -> dict[str, Any]:
        egress = self.qos.egress
        return {'algorithm': self.qos.algorithm, 'capacity': egress.capacity, 'streams': egress.streams,
                **self.overrides['queue']}

    @property
    def sub_queues(self) -> dict[str, SubQueue]:
        return {str(each.name): each for each in self.qos.queues}

    def options(self, child: str) -> Options:
        sub, colon, path = child.partition(':')
        if not colon:
            declared = self.sub_queues.get(sub)
            return Options.of(declared).set(self.overrides[f'sub:{sub}']) if declared else Options()
        if path in self.qos.tenants:
            options = Options.of(self.qos.tenants[path])
        elif PART in path:
            options = Options()
        else:
            options = Options.of(self.qos.default_tenant).set(self.overrides['default'])
        return options.set(self.overrides[f'tenant:{path}'])

    def rank(self, child: str) -> Optional[int]:
        kind, _, name = subject_of(child).partition(':')
        return {each: i + 1 for i, each in enumerate(self._order[kind])}.get(name)

    @property
    def _order(self) -> dict[str, list[str]]:
        return {'sub': list(self.sub_queues), 'tenant': list(self.qos.tenants)}

    @property
    def least_weight(self) -> float:
        return min((self.options(sub).weight for sub in self.sub_queues), default=1.0)

    @property
    def top(self) -> str:
        return ROOT if self.rooted else ''

    def algorithm(self, node: str) -> str:
        """Of the tenants of a sub-queue, and of what is inside them; the implicit one beside others goes by wrr."""
        sub = node.partition(':')[0]
        if node == self.top or not self.rooted or not self.sub_queues and sub == '':
            return self.queue['algorithm']
        return self.options(sub).algorithm

    @property
    def _main_nodes(self) -> list[str]:
        return [self.top, '', *self.sub_queues] if self.rooted else ['']

    def _measured(self, node: str) -> bool:
        return self.algorithm(node) == 'dwrr'

    # -- what there is

    def chain(self, child: str) -> list[str]:
        return chain_of(child, self.rooted)

    def above(self, child: str) -> str:
        return [self.top, *self.chain(child)][-2] if self.chain(child) else self.top

    def everywhere(self, child: str) -> list[str]:
        """The ids of a tenant in all sub-queues."""
        _, colon, path = child.partition(':')
        there = sorted({each.partition(':')[0] for each in self.waiting} - {'', *self.sub_queues})
        subs = ['', *self.sub_queues, *there] if self.rooted else ['']
        return [f'{sub}:{path}' for sub in subs] if colon else [child]

    def backlog(self, child: Optional[str] = None) -> int:
        """How many wait in all, or at and inside a child."""
        return sum(len(tasks) for each, streams in self.waiting.items() if child is None or child in self.chain(each)
                   for tasks in streams.values())

    def in_flight(self, subject: str) -> int:
        held = [task for task in self.in_egress if task.cost is not None]
        return sum(subject in task.subjects for tasks in (held, *self.running.values()) for task in tasks)

    @property
    def in_egress(self) -> list[Task]:
        return [task for stream in sorted(self.egress) for task in self.egress[stream]]

    @property
    def free(self) -> int:
        slots, capacity = sum(self.slots.values()), self.queue['capacity']
        return (slots if capacity is None else min(slots, capacity)) - len(self.in_egress)

    @property
    def size(self) -> int:
        return self.backlog() + sum(task.owner is None for task in self.in_egress)

    def held_by(self, consumer: str) -> list[Task]:
        return [task for task in self.in_egress if task.owner == consumer]

    # -- tasks

    def enqueue(self, task: Task, named: str = '', percent: Optional[float] = None) -> str:
        """Returns 'egress', 'waits', 'dropped' (an older one was), 'unknown' sub-queue, or what `on_full` says."""
        sub = self._sub_queue(task.tenant, named, percent)
        if sub is None:
            return 'unknown'
        task.sub_queue = sub
        child = f'{sub}:{task.tenant}'
        chain = self.chain(child)
        watched = any(self.options(each).limited for each in chain) or any(map(self._measured, self._main_nodes))
        if self.free > 0 and not watched and not self.nodes[self.top].ready and not self.backlog(chain[0]):
            self._to_egress(task)
            return 'egress'
        if self.backlog(child) and child not in self.waiting:
            child += PART
        for each in chain:
            options = self.options(each)
            if options.capacity is not None and sum(map(self.backlog, self.everywhere(each))) >= options.capacity:
                drops = options.on_full == 'drop-oldest' and child in self.waiting
                outcome = 'reject' if options.on_full == 'drop-oldest' and not drops else options.on_full
                self.refused[outcome, sub] += 1
                if drops:
                    self._append(child, task)
                    self._drop_oldest(child)
                    self.dispatch()
                    return 'dropped'
                if outcome == 'dead-letter':
                    self.dead.append(task.number)
                return outcome
        for each in chain[:-1]:
            if each in self.waiting:
                # It has tenants inside from now on.
                self.waiting[each + PART] = self.waiting.pop(each)
                self._add(each + PART)
        if self._append(child, task) == 1:
            self._make_ready(child)
        self.dispatch()
        return 'waits'

    def _sub_queue(self, tenant: str, named: str, percent: Optional[float]) -> Optional[str]:
        if not self.sub_queues and not self.waiting:
            self.rooted = False
        if not self.rooted:
            return None if named else ''
        if named:
            return named if named in self.sub_queues else None
        for each in reversed(chain_of(f':{tenant}', rooted=False)):
            own = self.options(each).sub_queue
            if own in self.sub_queues:
                return own
        shares = {sub: self.options(sub).ingress for sub in self.sub_queues}
        upto = 0.0
        for sub, share in shares.items():
            upto += share
            if percent is not None and percent <= upto / sum(shares.values()) * 100:
                return sub
        return list(shares)[-1] if shares else ''

    def _append(self, child: str, task: Task) -> int:
        streams = self.waiting.setdefault(child, {})
        streams.setdefault(task.priority, deque()).append(task)
        return sum(map(len, streams.values()))

    def _pop(self, child: str, priority: int) -> Task:
        streams = self.waiting[child]
        task = streams[priority].popleft()
        if not streams[priority]:
            del streams[priority]
        if not streams:
            del self.waiting[child]
        return task

    def _drop_oldest(self, child: str) -> None:
        self._pop(child, max(self.waiting[child]))

    def _to_egress(self, task: Task) -> None:
        shortest = min(range(self.queue['streams']), key=lambda stream: len(self.egress[stream]))
        self.egress[shortest].append(task)

    def _remove(self, task: Task) -> bool:
        for tasks in self.egress.values():
            if task in tasks:
                tasks.remove(task)
                return True
        return False

    def settle(self, tasks: list[Task]) -> int:
        settled = sum(map(self._remove, tasks))
        self.dispatch()
        return settled

    def start(self, consumer: str, tasks: list[Task]) -> int:
        started = [task for task in tasks if self._remove(task)]
        self.running[consumer] += started
        if started:
            self.leases.setdefault(consumer, False)
            self.dispatch()
        return len(started)

    def finish(self, consumer: str, tasks: list[Task], seconds: Optional[float]) -> int:
        finished = 0
        for task in tasks:
            if task in self.running[consumer]:
                self.running[consumer].remove(task)
            elif not self._remove(task):
                continue
            self._vacate(task, seconds)
            finished += 1
        self.dispatch()
        return finished

    def requeue(self, tasks: list[Task], counted: bool) -> int:
        held = [task for task in tasks if task in self.in_egress and task.owner]
        for task in held:
            stream = next(tasks for tasks in self.egress.values() if task in tasks)
            stream.remove(task)
            stream.append(replace(task, owner=None, redelivered=True, failures=task.failures + counted))
        return len(held)

    def read(self, consumer: str, at_most: int, of_each: bool = False) -> list[Task]:
        """At most so many in all, or of each stream."""
        read: list[Task] = []
        for stream in sorted(self.egress):
            new = [task for task in self.egress[stream] if task.owner is None]
            read += new[:at_most if of_each else at_most - len(read)]
        for task in read:
            task.owner = consumer
        return read

    def get(self, consumer: str) -> Optional[Task]:
        slots = self.slots.get(consumer, 0)
        self._set_slots(consumer, slots + 1)
        self.dispatch()
        read = self.read(consumer, 1)
        if read:
            self.leases[consumer] = False
            return read[0]
        self._set_slots(consumer, slots)
        if slots:
            self.leases.setdefault(consumer, False)
        elif not self.held_by(consumer) and not self.running[consumer]:
            self._forget(consumer)
        self.idle()
        return None

    def purge(self) -> int:
        purged = self.size
        self.waiting.clear()
        self.nodes.clear()
        self.parked.clear()
        for task in self.in_egress:
            if task.owner is None:
                self._remove(task)
                if task.cost is not None:
                    self._vacate(task)
        self.idle()
        return purged

    # -- workers

    def lease(self, consumer: str, slots: int) -> tuple[bool, int]:
        held = 0 if slots else len(self.held_by(consumer)) + len(self.running[consumer])
        if not slots and not held:
            self._forget(consumer)
            self.idle()
            return False, 0
        new = consumer not in self.leases
        self.leases[consumer] = False
        self._set_slots(consumer, slots)
        self.dispatch()
        return new, held

    def release(self, consumer: str) -> int:
        moved = self._recover(consumer, False)
        self.dispatch()
        return moved

    def reclaim(self, consumer: str, held: list[Task]) -> int:
        return self.requeue([task for task in self.held_by(consumer) if task not in held], False)

    def end_lease(self, consumer: str) -> None:
        if consumer in self.leases:
            self.leases[consumer] = True

    def sweep(self) -> dict[str, int]:
        """Consumer to the tasks that are delivered again."""
        ended = sorted(consumer for consumer, over in self.leases.items() if over)
        recovered = {consumer: self._recover(consumer, True) for consumer in ended}
        for task in self.in_egress:
            if task.owner:
                self.leases.setdefault(task.owner, False)
        self.dispatch()
        return recovered

    def _recover(self, consumer: str, counted: bool) -> int:
        moved = self.requeue(self.held_by(consumer), counted)
        # What it acknowledged early is lost with it.
        ran = self.running[consumer]
        for task in sorted(ran, key=lambda each: f'{each.sub_queue}:{each.tenant}'.encode()):
            ran.remove(task)
            self._vacate(task)
        self._forget(consumer)
        return moved

    def _set_slots(self, consumer: str, slots: int) -> None:
        if slots:
            self.slots[consumer] = slots
        else:
            self.slots.pop(consumer, None)

    def _forget(self, consumer: str) -> None:
        self.slots.pop(consumer, None)
        self.leases.pop(consumer, None)

    def idle(self) -> None:
        """Without workers and tasks everything but the settings is forgotten."""
        if not self.leases and not self.waiting and not self.in_egress:
            self.averages.clear()
            self.nodes.clear()
            self.slots.clear()

    # -- dispatch

    def dispatch(self) -> None:
        while self.free > 0 and (self._serve() or self._lend()):
            pass
        self.idle()

    def _serve(self, lender: Optional[str] = None) -> bool:
        """One turn. Only those below a lender pay for what is lent to it: nobody else wants the slot."""
        ids = [lender] if lender in self.waiting else self._descend(self.top if lender is None else lender)
        if not ids:
            return False
        leaf = ids[-1]
        task = self._pop(leaf, min(self.waiting[leaf]))
        seconds = self._occupy(task, leaf)
        self._to_egress(task)
        for child in reversed(ids):
            if child != lender:
                self._pay(child, seconds)
        return True

    def _descend(self, node: str) -> list[str]:
        """The ids below the node down to the tenant whose turn it is; who is blocked is parked on the way."""
        ids: list[str] = []
        while ready := self.nodes[ids[-1] if ids else node].ready:
            child = min(ready, key=lambda each: (ready[each], each.encode()))
            if self.blocked(child):
                self._leave(child)
                self.parked.add(child)
                ids = []
                continue
            ids.append(child)
            if child in self.waiting:
                return ids
        return []

    def blocked(self, child: str, lent: bool = False) -> bool:
        options, subject = self.options(child), subject_of(child)
        cap = options.max_in_flight
        return (options.paused or options.rate is not None and subject in self.spent or
                cap is not None and self.in_flight(subject) >= cap + options.burst * lent)

    def _lend(self) -> bool:
        """Nobody else has use for a slot: who is at the cap may go beyond; who has borrowed least is first."""
        def may_borrow(child: str) -> bool:
            return (self.options(child).max_in_flight is not None and not self.blocked(child, lent=True)
                    and not any(map(self.blocked, self.chain(child)[:-1])))

        def borrowed(child: str) -> tuple[int, bytes]:
            return self.in_flight(subject_of(child)) - (self.options(child).max_in_flight or 0), child.encode()

        for child in sorted(filter(may_borrow, self.parked), key=borrowed):
            if self._serve(child):
                if not self.backlog(child):
                    self.parked.remove(child)
                return True
        return False

    def _occupy(self, task: Task, leaf: str) -> float:
        """Take what is counted; returns the seconds that the task is taken to last."""
        chain = self.chain(leaf)
        self.spent.update(subject_of(each) for each in chain if self.options(each).rate is not None)
        measured = any(self._measured(self.above(each)) for each in chain)
        if measured:
            task.cost = self.averages.get(f'tenant:{task.tenant}', self.averages.get(f'sub:{task.sub_queue}', 1.0))
        elif any(self.options(each).max_in_flight is not None for each in chain):
            task.cost = 0.0
        return task.cost or 0.0

    def _vacate(self, task: Task, seconds: Optional[float] = None) -> None:
        """A tracked task is in flight no more."""
        chain = self.chain(f'{task.sub_queue}:{task.tenant}')
        if seconds is not None:
            seconds = max(LEAST_SECONDS, seconds)
            for subject in f'tenant:{task.tenant}', f'sub:{task.sub_queue}':
                average = self.averages.get(subject, seconds)
                self.averages[subject] = float(f'{average + 0.2 * (seconds - average):.6f}')
            for child in chain:
                self._correct(child, seconds - (task.cost or 0.0))
        for child in chain:
            left, cap = self.in_flight(subject_of(child)), self.options(child).max_in_flight
            for each in self.everywhere(child):
                if left == 0:
                    self._settle_tag(each)
                if cap is not None and left < cap:
                    self._unpark(each)

    # -- tags

    def virtual_time(self, node: str) -> float:
        time = self.nodes[node].virtual_time
        return time if time is not None else UNRANKED if self.algorithm(node) == 'pq' else 0.0

    def _place(self, node: str, child: str) -> Optional[int]:
        return self.rank(child) if self.algorithm(node) == 'pq' else None

    def _add(self, child: str) -> None:
        above = self.above(child)
        node, place = self.nodes[above], self._place(above, child)
        if place is not None:
            node.ready[child] = place
            return
        start = self.virtual_time(above)
        if node.newest >= start:
            start = node.newest + TIE * max(1.0, node.newest * 2.0 ** -20)
        finish = node.finish.pop(child, node.owing.pop(child, 0.0))
        if finish > start:
            start = finish
        else:
            node.newest = start
        node.ready[child] = start

    def _make_ready(self, child: str) -> None:
        """It can be served, and with it those above."""
        self._add(child)
        for each in reversed(self.chain(child)[:-1]):
            if each in self.nodes[self.above(each)].ready or each in self.parked:
                break
            self._add(each)

    def _unpark(self, child: str) -> None:
        if child in self.parked:
            self.parked.remove(child)
            if child in self.waiting or self.nodes[child].ready:
                self._make_ready(child)

    def _pay(self, child: str, seconds: float) -> None:
        above = self.above(child)
        node = self.nodes[above]
        tag = node.ready[child]
        cost = ALGORITHMS[self.algorithm(above)](self, child, seconds)
        if cost is not None:
            # By dwrr a tag may have been corrected to before virtual time, which does not go back.
            node.virtual_time = max(tag, self.virtual_time(above))
            tag += cost
        if child in self.waiting or self.nodes[child].ready:
            node.ready[child] = tag
        else:
            self._take_out(child, tag)

    def _leave(self, child: str) -> None:
        """It cannot be served now; nor can those above that have no other. They owe what they owe."""
        tag = self.nodes[self.above(child)].ready.get(child)
        if self._take_out(child, tag) and len(self.chain(child)) > 1:
            self._leave(self.above(child))

    def _take_out(self, child: str, tag: Optional[float]) -> bool:
        """Returns whether nobody contends any more."""
        above = self.above(child)
        node = self.nodes[above]
        node.ready.pop(child, None)
        if not node.ready:
            self.nodes[above] = Node()
            return True
        if tag is not None and self._place(above, child) is None:
            if self._measured(above) and self.in_flight(subject_of(child)) and not child.endswith(PART):
                node.owing[child] = tag
            else:
                self._forget_passed(above)
                node.finish[child] = tag
        return False

    def _forget_passed(self, above: str) -> None:
        """Tags that virtual time has passed: their owners would start at virtual time anyway."""
        node, now = self.nodes[above], self.virtual_time(above)
        node.finish = {child: tag for child, tag in node.finish.items() if tag > now}

    def _correct(self, child: str, seconds: float) -> None:
        above = self.above(child)
        if self._measured(above):
            for tags in self._tags(above):
                if child in tags:
                    tags[child] += seconds / self.options(child).weight

    def _settle_tag(self, child: str) -> None:
        above = self.above(child)
        node = self.nodes[above]
        if child in node.owing:
            tag = node.owing.pop(child)
            self._forget_passed(above)
            if tag > self.virtual_time(above):
                node.finish[child] = tag

    def _tags(self, node: str) -> list[dict[str, float]]:
        return [self.nodes[node].ready, self.nodes[node].finish, self.nodes[node].owing]

    # -- changes of the options

    def set(self, of: str, values: dict[str, Any], forget: Iterable[str] = ()) -> None:
        """Change options at run time; forgotten ones are as configured."""
        def change() -> None:
            self.overrides[of].update(values)
            for name in forget:
                self.overrides[of].pop(name, None)

        kind, _, name = of.partition(':')
        concerned = self.everywhere(f':{name}') if kind == 'tenant' else [name] if kind == 'sub' else []
        self._change(change, concerned, default=of == 'default')

    def configure(self, qos: QoS) -> None:
        old, new = self.qos, qos

        def change() -> None:
            self.qos = qos

        subs = {str(each.name): each for each in new.queues}
        concerned = [each for path in {**old.tenants, **new.tenants} for each in self.everywhere(f':{path}')
                     if old.tenants.get(path) != new.tenants.get(path)]
        concerned += [name for name in {**self.sub_queues, **subs} if self.sub_queues.get(name) != subs.get(name)]
        self._change(change, concerned, default=old.default_tenant != new.default_tenant)

    def _change(self, change: Callable[[], None], concerned: list[str], default: bool) -> None:
        """Those that are concerned have another weight, or may have been parked for what no longer holds."""
        def algorithms() -> dict[str, str]:
            return {node: self.algorithm(node) for node in [self.top, '', *self.sub_queues, *there]}

        there = {each.partition(':')[0] for each in self.waiting}
        contending = [child for node in list(self.nodes) if default and (node == ROOT or ':' not in node)
                      for tags in self._tags(node) for child in tags]
        weights = {child: self.options(child).weight for child in [*concerned, *contending]}
        before, order, rooted = algorithms(), self._order, self.rooted

        change()
        # What waits in a sub-queue keeps the tree's shape.
        self.rooted = bool(self.sub_queues) or rooted and bool(self.waiting)
        if self.rooted and not rooted and self.nodes[''].ready:
            self._add('')
        for node, algorithm in algorithms().items():
            if before.get(node, 'wrr') != algorithm or algorithm == 'pq' and order != self._order:
                self._restart(node)
        for child in sorted(weights, key=str.encode):
            self._reweigh(child, weights[child] / self.options(child).weight)
        for child in [*sorted(concerned, key=str.encode), *(sorted(self.parked, key=str.encode) if default else ())]:
            self._unpark(child)
        self.dispatch()

    def _reweigh(self, child: str, ratio: float) -> None:
        """By how much a tag is ahead of virtual time is work, which another weight makes up for sooner or later."""
        above = self.above(child)
        now = self.virtual_time(above)
        if ratio != 1 and self._place(above, child) is None:
            for tags in self._tags(above):
                if tags.get(child, now) > now:
                    tags[child] = now + (tags[child] - now) * ratio

    def _restart(self, top: str) -> None:
        """Everyone starts anew, in the old order, in the node and inside its tenants."""
        for name in self._inside(top):
            ready = self.nodes[name].ready
            self.nodes[name] = Node()
            for child in sorted(ready, key=lambda each: (ready[each], each.encode())):
                self._add(child)

    def _inside(self, top: str) -> Iterator[str]:
        yield top
        for node in list(self.nodes):
            if top != ROOT and ':' in node and node.partition(':')[0] == top:
                yield node
