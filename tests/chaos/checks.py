"""What must hold after a run: one function each, listed in `CHECKS`."""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, Optional

from .ledger import Fault, Run, Task
from .run import Evidence
from .settings import TENANTS

__all__ = ('CHECKS', 'Finding', 'Judge')

#: Faults that end a process, so that what it had acknowledged early is lost.
KILLS = ('kill_worker', 'kill_main_process', 'kill_child', 'cold_shutdown', 'stuck', 'died')
#: Faults after which a task may be delivered to somebody else though it was begun.
REDELIVERS = (*KILLS, 'stop_beyond_lease', 'half_open', 'kill_broker', 'shut_broker_down')
#: Faults in which nobody, or many, can talk to the broker.
AWAY = ('kill_broker', 'shut_broker_down', 'half_open', 'kill_all_clients')
#: Pools whose running tasks Celery fails, and acknowledges, when a cold shutdown interrupts them.
FAILS_ON_COLD_SHUTDOWN = ('solo', 'gevent')
#: Seconds without a task after which a worker has stalled, while others get some.
STALLED = 25.0
#: Measurements from which on their 99th percentile says more than the worst of them; fewer are told, and not judged.
ENOUGH = 100
#: Examples listed of what does not hold.
EXAMPLES = 20


@dataclass
class Finding:
    """The outcome of a check."""

    name: str
    holds: bool
    #: What there is to say, as numbers and short texts.
    facts: dict[str, Any] = field(default_factory=dict)
    #: What speaks against it.
    against: list[str] = field(default_factory=list)


class Judge:
    """Knows which fault explains what."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.tasks = evidence.history.tasks
        #: Seconds after the end of a fault in which it still shows.
        self.slack = (evidence.options.lease_seconds if evidence.options.transport == 'qos'
                      else evidence.options.visibility_timeout) + 3
        self.lives = {life.name: life for life in evidence.lives}
        self._of: dict[str, list[Fault]] = {name: [] for name in self.lives}
        self.general: list[Fault] = []
        for fault in evidence.faults:
            for name in fault.hit:
                self._of[name].append(fault)
            if fault.everybody or fault.proxied:
                self.general.append(fault)

    def hits(self, worker: str, start: float, end: float, kinds: Collection[str] = ()) -> Iterator[Fault]:
        """Faults that may have hit a worker in between, or whose effects it still had."""
        life = self.lives.get(worker)
        general = [fault for fault in self.general if fault.everybody or life is None or life.proxied]
        for fault in (*self._of.get(worker, ()), *general):
            if (not kinds or fault.kind in kinds) and fault.at - 0.5 <= end and fault.until + self.slack >= start:
                yield fault

    def hit(self, worker: str, start: float, end: float, kinds: Collection[str] = ()) -> Optional[Fault]:
        return next(self.hits(worker, start, end, kinds), None)

    def fewest_at_work(self, start: float, end: float) -> int:
        """How many workers were ready and neither stopped nor ending, when there were fewest."""
        times = [start + 0.25 * step for step in range(int((end - start) / 0.25) + 1)]
        return min(sum(life.ready is not None and life.ready <= at and (life.ended is None or at < life.ended)
                       and not any(fault.at <= at <= fault.until for fault in self._of[life.name])
                       for life in self.evidence.lives) for at in times)

    def killed(self, run: Run) -> Optional[Fault]:
        """What ended an execution that has no end."""
        for fault in self.hits(run.worker, run.start - self.slack, inf, KILLS):
            if fault.until >= run.start - 0.5 and fault.pid in (0, run.pid):
                return fault
        return None

    def explain_duplicate(self, task: Task, retry: int, before: Run, after: Run) -> str:
        """The kind of fault for which `after` ran though `before` had, '' where there is none."""
        start = min(before.start, *(at for at, worker in task.received if worker == before.worker), before.start)
        for run in before, after:
            for fault in self.hits(run.worker, start, after.start, REDELIVERS):
                if fault.kind != 'kill_child' or fault.pid == before.pid:
                    return fault.kind
        if not after.redelivered and retry and len(task.runs.get(retry - 1, ())) > 1:
            return 'the execution before ran twice'
        if task.name == 'whole' and any(len(runs) > 1 for part in self.tasks.values() if part.body == task.id
                                        for runs in part.runs.values()):
            return 'a part of the chord ran twice'
        return ''


def _describe(task: Task, retry: Optional[int] = None) -> str:
    runs = ', '.join(
        f'{number}: {run.worker} pid {run.pid} {run.start:.3f} to {f"{run.end:.3f}" if run.end else "-"}'
        f'{" redelivered" if run.redelivered else ""}'
        for number, runs in sorted(task.runs.items()) if retry is None or number == retry for run in runs)
    received = ', '.join(f'{worker} {at:.3f}' for at, worker in task.received)
    return (f'{task.id} {task.name} of {task.tenant!r}, retries {task.retries}, countdown {task.countdown}, '
            f'published {task.begun:.3f} to {task.published or task.failed}; received: {received or "-"}; '
            f'ran: {runs or "-"}')


def every_task_is_accounted_for(judge: Judge) -> Finding:
    """Nothing is lost but what Celery's contract loses."""
    rows: Counter[str] = Counter()
    lost: list[str] = []
    orphans: list[Task] = []
    gone: set[str] = set()
    for task in judge.tasks.values():
        row = _fate(judge, task)
        if row == 'lost' and task.name == 'whole':
            orphans.append(task)
            continue
        rows[row] += 1
        if row not in ('done', 'publish raised, never ran'):
            gone.add(task.id)
        if row == 'lost':
            lost.append(_describe(task))
    broken = {task.body for task in judge.tasks.values() if task.body and (task.id in gone or not task.done)}
    for task in orphans:
        if task.id in broken:
            rows['chord whose part never ended'] += 1
        elif task.sent is None:
            # Celery counts the parts in its result backend: the broker was never asked to take the body.
            rows['body of a chord, never published by Celery'] += 1
        else:
            rows['lost'] += 1
            lost.append(_describe(task))
    raised = [task for task in judge.tasks.values() if task.published is None]
    return Finding('every task is accounted for', not lost, {
        'tasks': len(judge.tasks), **rows, 'publish raised': len(raised),
        'publish raised, ran nevertheless': sum(bool(task.runs) for task in raised),
        'ran, but unknown': len(judge.evidence.history.strange)}, lost)


def _fate(judge: Judge, task: Task) -> str:
    if task.done is not None:
        return 'done'
    if not task.runs:
        if task.published is None:
            return 'publish raised, never ran'
        if not task.late:
            for at, worker in task.received:
                fault = judge.hit(worker, at, at + 10, KILLS)
                if fault and fault.until >= at - 0.5:
                    return 'early-ack, killed between its ack and its start'
        return 'lost'
    last = task.runs[max(task.runs)]
    for run in last:
        if run.end is None:
            fault = judge.killed(run)
            if fault and not task.late:
                return 'early-ack, killed as it ran'
            life = judge.lives.get(run.worker)
            if fault and life and fault.kind == 'cold_shutdown' and life.pool in FAILS_ON_COLD_SHUTDOWN:
                return 'late-ack, failed by a cold shutdown of solo or gevent'
        elif not task.late:
            for fault in judge.hits(run.worker, run.end, run.end + 10, KILLS):
                if fault.until >= run.end - 0.5:
                    return 'early-ack, killed between its end and its retry'
    return 'lost'


def every_duplicate_is_explained(judge: Judge) -> Finding:
    """A task runs twice only where a fault hit a worker that had it."""
    rows: Counter[str] = Counter()
    against = []
    for task in judge.tasks.values():
        for retry, runs in task.runs.items():
            for before, after in zip(runs, runs[1:]):
                why = judge.explain_duplicate(task, retry, before, after)
                rows[why or 'unexplained'] += 1
                if not why:
                    against.append(_describe(task, retry))
    return Finding('every duplicate is explained', not against, {'duplicates': rows.total(), **rows}, against)


def max_in_flight_holds(judge: Judge) -> Finding:
    """Never more of the capped tenant's tasks run at a time, but for what a fault made run twice or unseen."""
    cap = TENANTS['capped']['max_in_flight']
    events: list[tuple[float, int, Run]] = []
    for task in judge.tasks.values():
        if task.tenant == 'capped':
            for runs in task.runs.values():
                for run in runs:
                    fault = judge.killed(run) if run.end is None else None
                    end = run.end or (fault.at if fault else None)
                    if end is not None:
                        events += [(run.start, 1, run), (max(end, run.start), 0, run)]
    events.sort(key=lambda event: event[:2])
    active: list[Run] = []
    most = excess = 0
    against = []
    for at, begins, run in events:
        if not begins:
            active.remove(run)
            continue
        active.append(run)
        most = max(most, len(active))
        if len(active) > cap:
            if any(judge.hit(each.worker, each.start, at, REDELIVERS) for each in active):
                excess += 1
            else:
                against.append(f'{at:.3f}: {len(active)} at a time: ' + ', '.join(
                    f'{each.worker} since {each.start:.3f}' for each in active))
    return Finding('max_in_flight holds', not against, {
        'limit': cap, 'executions': len(events) // 2, 'most at a time': most,
        'starts beyond it that a fault explains': excess}, against)


def the_rate_holds(judge: Judge) -> Finding:
    """The rated tenant starts no more tasks in any ten seconds than its rate allows, redeliveries left out."""
    rate, seconds = TENANTS['rated']['rate'], 10
    starts = sorted(run.start for task in judge.tasks.values() if task.tenant == 'rated'
                    for runs in task.runs.values() for run in runs if not run.redelivered)
    most = max((bisect_right(starts, start + seconds) - index for index, start in enumerate(starts)), default=0)
    # A second's tokens may have been saved up, and as many as there are slots may have waited in workers.
    limit = rate * (seconds + 1) + 3 * judge.evidence.slots
    return Finding('the rate holds', most <= limit, {
        'starts': len(starts), f'most in {seconds} s': most, 'limit': limit})


def the_pause_holds(judge: Judge) -> Finding:
    """The paused tenant's tasks run when it is let go, and not before."""
    lifted = judge.evidence.lifted or inf
    tasks = [task for task in judge.tasks.values() if task.tenant == 'paused']
    early = [_describe(task) for task in tasks if task.first_start is not None and task.first_start < lifted]
    return Finding('the pause holds', not early and lifted < inf, {'tasks': len(tasks)}, early)


def quiet_tenant_is_served_soon(judge: Judge) -> Finding:
    """A tenant with one task at a time is overtaken by few of those who have a backlog."""
    receipts = sorted(at for times in judge.evidence.history.receipts.values() for at in times)
    overtaken, waits, excluded, busy = [], [], 0, 0
    for task in judge.tasks.values():
        if task.tenant != 'quiet' or not task.published or not task.received or not task.runs:
            continue
        at, worker = task.received[0]
        if judge.lives[worker].pool == 'solo':
            busy += 1       # it receives nothing while it runs a task
            continue
        # What was delivered before to somebody who did not get to it is marked redelivered.
        if len(task.received) > 1 or any(run.redelivered for runs in task.runs.values() for run in runs) \
                or judge.hit(worker, task.begun, at) \
                or any(fault.at <= at and fault.until + judge.slack >= task.begun for fault in judge.general):
            excluded += 1
            continue
        overtaken.append(bisect_left(receipts, at) - bisect_right(receipts, task.published))
        waits.append(max(0.0, (task.first_start or at) - task.published))
    others = sorted((task.first_start or 0) - task.published for task in judge.tasks.values()
                    if task.published and task.first_start and task.tenant.startswith('tenant-')
                    and not task.countdown)
    # Those in egress may be before it, those that run end and are followed by others, and everybody has a turn.
    limit = 3 * judge.evidence.slots + 40
    facts = {'tasks': len(overtaken), 'left out for a fault': excluded, 'left out, received by solo': busy,
             'overtaken by, p50': _share(overtaken, 0.5),
             'p99': _share(overtaken, 0.99), 'limit': limit, 'wait p50 (s)': _share(waits, 0.5),
             'wait p95 (s)': _share(waits, 0.95), 'wait of the busy p50 (s)': _share(others, 0.5),
             'wait of the busy p95 (s)': _share(others, 0.95)}
    holds = len(overtaken) < ENOUGH or _share(overtaken, 0.99) <= limit
    return Finding('the quiet tenant is served soon', holds, facts)


def service_follows_weights(judge: Judge) -> Finding:
    """Two tenants that always have a backlog: the bound of start-time fair queueing, on tasks started."""
    weights = {name: TENANTS[name]['weight'] for name in ('heavy-1', 'heavy-3')}
    events = []
    for task in judge.tasks.values():
        if task.tenant in weights and task.first_start is not None:
            events += [(task.published or task.begun, 1, task.tenant), (task.first_start, 0, task.tenant)]
    events.sort()
    # Delivered ahead, and running.
    depth = 3 * judge.evidence.slots
    limit = (depth + 1) * sum(1 / weight for weight in weights.values())
    waiting, served, base = dict.fromkeys(weights, 0), dict.fromkeys(weights, 0), None
    worst, counted = 0.0, 0
    for _, published, tenant in events:
        waiting[tenant] += 1 if published else -1
        if not published:
            served[tenant] += 1
        if min(waiting.values()) <= depth:
            base = None
        elif base is None:
            base = dict(served)
        elif not published:
            counted += 1
            first, second = ((served[name] - base[name]) / weight for name, weight in weights.items())
            worst = max(worst, abs(first - second))
    return Finding('service follows weights', worst <= limit, {
        'starts counted': counted, 'heavy-1': served['heavy-1'], 'heavy-3': served['heavy-3'],
        'worst difference': round(worst, 1), 'bound': round(limit, 1)})


def no_worker_stalls(judge: Judge) -> Finding:
    """A worker that lives gets tasks, whatever hit it."""
    against, longest = [], 0.0
    for life in judge.evidence.lives:
        if life.ready is None:
            continue
        end = min(life.ended or inf, judge.evidence.stopped)
        times = [life.ready, *judge.evidence.history.receipts.get(life.name, ()), end]
        times += [fault.until for fault in judge.hits(life.name, life.ready, end)]
        times = sorted(time for time in times if time <= end)
        for before, after in zip(times, times[1:]):
            longest = max(longest, after - before)
            if after - before > STALLED:
                against.append(f'{life.name}: no task from {before:.3f} to {after:.3f}')
    return Finding('no worker stalls', not against, {'longest time without a task (s)': round(longest, 1)}, against)


def workers_end_as_told(judge: Judge) -> Finding:
    """None ends by itself, and all end when they are asked to."""
    against = [f'{life.name} {"did not end in time" if life.stuck else f"ended by itself with {life.code}"}'
               for life in judge.evidence.lives if life.ended is not None and (life.stuck or not life.expected)]
    warm = {name for fault in judge.evidence.faults if fault.kind == 'warm_shutdown' for name in fault.hit}
    against += [f'{life.name}: a warm shutdown ended with {life.code}'
                for life in judge.evidence.lives if life.name in warm and life.code and not life.stuck]
    return Finding('workers end as told', not against, {'workers started': len(judge.evidence.lives)}, against)


def everything_is_idle_at_the_end(judge: Judge) -> Finding:
    evidence = judge.evidence
    facts = {'seconds until idle': round(evidence.idle - evidence.stopped, 1)} if evidence.idle else {}
    return Finding('everything is idle at the end', evidence.idle is not None, facts,
                   [evidence.left] if evidence.left else [])


def no_key_is_left(judge: Judge) -> Finding:
    """But settings, and what expires."""
    left = judge.evidence.keys_left
    return Finding('no key is left', not left, {}, [f'{key}: {why}' for key, why in left.items()])


def the_harness_did_its_part(judge: Judge) -> Finding:
    evidence, options = judge.evidence, judge.evidence.options
    against = list(evidence.errors)
    if len(evidence.faults) < options.faults:
        against.append(f'{len(evidence.faults)} faults instead of {options.faults}; {evidence.skipped} found nobody')
    if len(judge.tasks) < options.tasks:
        against.append(f'{len(judge.tasks)} tasks instead of {options.tasks}')
    against += [f'a producer ended with {code}' for code in evidence.producers if code]
    return Finding('the harness did its part', not against, {
        'faults': len(evidence.faults), 'tasks': len(judge.tasks)}, against)


def killed_workers_tasks_return_soon(judge: Judge) -> Finding:
    """What a killed worker had is started by another within a lease and two seconds, where nothing else is between."""
    times: list[float] = []
    apart: Counter[str] = Counter()
    for fault in judge.evidence.faults:
        for task_id, retry, eta in fault.held:
            task = judge.tasks.get(task_id)
            runs = [run for run in (task.runs.get(retry, ()) if task else ())
                    if run.start > fault.at and run.worker not in fault.hit]
            if task is None or not runs:
                apart['never started again'] += 1
                continue
            start = runs[0].start
            received = [(at, worker) for at, worker in task.received if fault.at < at <= start
                        and worker not in fault.hit]
            if eta > fault.at:
                apart['its countdown had not ended'] += 1
            elif any(each.at <= start and each.until + 1 >= fault.at
                     for each in judge.evidence.faults if each is not fault
                     and (each.kind in AWAY or any(worker in each.hit for _, worker in received))):
                apart['another fault in between'] += 1
            elif judge.fewest_at_work(fault.at, start) < len(judge.evidence.options.pools) / 2:
                apart['not half of the workers were there'] += 1
            elif received and start - received[0][0] > 0.5:
                apart['waited for another task in the worker that got it'] += 1
            else:
                times.append(start - fault.at)
    limit = judge.evidence.options.lease_seconds + 2
    worst = _share(times, 0.99)
    return Finding("a killed worker's tasks return soon", len(times) < ENOUGH or worst <= limit, {
        'tasks': len(times), 'p50 (s)': _share(times, 0.5), 'p99 (s)': worst, 'max (s)': _share(times, 1.0),
        'target of p99 (s)': limit, **apart})


def _share(values: list, share: float) -> Any:
    """The value below which that share of them is."""
    if not values:
        return 0
    value = sorted(values)[min(len(values) - 1, int(share * len(values)))]
    return round(value, 3) if isinstance(value, float) else value


#: The checks, and whether each makes sense for every transport or for this one only.
CHECKS: list[tuple[Callable[[Judge], Finding], bool]] = [
    (every_task_is_accounted_for, True),
    (every_duplicate_is_explained, True),
    (killed_workers_tasks_return_soon, False),
    (max_in_flight_holds, False),
    (the_rate_holds, False),
    (the_pause_holds, False),
    (quiet_tenant_is_served_soon, False),
    (service_follows_weights, False),
    (no_worker_stalls, True),
    (workers_end_as_told, True),
    (everything_is_idle_at_the_end, True),
    (no_key_is_left, False),
    (the_harness_did_its_part, True),
]
