"""Draws the pictures of docs/algorithms.md from real runs: ``python docs/pictures.py``, with the extra ``demo``.

Each run has a Redis server and a worker of its own, and takes seconds. What a picture is there to show is checked
before it is written.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import click
from drawing import Mark, Panel, Row, draw, draw_drift
from runs import Task, running

import celery_qos
from celery_qos import QoS, SubQueue, Tenant


def check(seen: Any, what: str) -> None:
    if not seen:
        raise click.ClickException(f'this run does not show that {what}; on a busy machine, try again')


def turns(tasks: Sequence[Task]) -> str:
    """Whose turn it was, in order."""
    return ' '.join(task.row for task in tasks)


def of(row: str, tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if task.row == row]


def turn_rows(tasks: Sequence[Task], labels: dict[str, str]) -> list[Row]:
    """A row for each name, with its label and the number of its turns."""
    return [Row(name, colour, f'{len(of(name, tasks))} turns', label)
            for colour, (name, label) in enumerate(labels.items())]


def length(seconds: float) -> str:
    return f'{seconds * 1000:.0f} ms' if seconds < 1 else f'{seconds:.1f} s'


def stock(path: Path) -> str:
    panels, waits = [], []
    for heading, qos in ('Celery’s stock Redis transport', None), ('celery-qos', QoS()):
        with running(qos) as run:
            for tenant, times in ('a', 24), ('b', 3):
                run.send(tenant, times, 40, **{'tenant': tenant} if qos else {})
            run.start()
            tasks = run.tasks(27)
        waits.append(of('b', tasks)[0].start)
        panels.append(Panel(tasks, [Row('a', 0, '24 tasks', 'tenant a'),
                                    Row('b', 1, f'waits {length(waits[-1])}', 'tenant b')], heading))
    check(waits[0] > 0.9 and waits[1] < 0.3, 'b waits for all of a on the stock transport alone')
    draw(path, 'Tenant a publishes 24 tasks, then b publishes 3: b waits for one of them, not for 24', panels)
    return 'b waits {} and {}'.format(*map(length, waits))


def pq(path: Path) -> str:
    names = 'urgent', 'normal', 'bulk'
    arrivals = []
    with running(QoS(algorithm='pq', queues=[SubQueue(name, 1000, 1) for name in names])) as run:
        for name, times in ('bulk', 12), ('normal', 6):
            run.send(name, times, 50, sub_queue=name)
        run.start()
        for at in 0.18, 0.7:
            run.at(at)
            run.send('urgent', 2, 50, sub_queue='urgent')
            arrivals.append(run.now)
        tasks = run.tasks(22)
    for at in arrivals:
        check([task.row for task in tasks if task.start > at][:1] == ['urgent'], 'urgent is next')
    check(of('normal', tasks)[-1].start < of('bulk', tasks)[0].start, 'bulk waits for all of normal')
    draw(path, 'pq: urgent is always next, and bulk waits until nobody else has tasks', [
        Panel(tasks, [Row('urgent', 1, 'first'), Row('normal', 0, 'second'), Row('bulk', 2, 'last')],
              marks=[Mark(at, '2 urgent tasks arrive') for at in arrivals])])
    return turns(tasks)


def rr(path: Path) -> str:
    with running(QoS(algorithm='rr', tenants={'a': Tenant(weight=5)})) as run:
        for name, times in ('a', 14), ('b', 7), ('c', 3):
            run.send(name, times, 50, tenant=name)
        run.start()
        tasks = run.tasks(24)
    check(turns(tasks) == ' '.join('abc' * 3 + 'ab' * 4 + 'a' * 7), 'each has one turn')
    draw(path, 'rr: one turn each for all who have tasks, whatever their weights', [
        Panel(tasks, turn_rows(tasks, {'a': 'a, weight 5', 'b': 'b, weight 1', 'c': 'c, weight 1'}))])
    return turns(tasks)


def wrr(path: Path) -> str:
    weights = {'a': 3, 'b': 2, 'c': 1}
    with running(QoS(tenants={name: Tenant(weight) for name, weight in weights.items()})) as run:
        for name in weights:
            run.send(name, 15, 50, tenant=name)
        run.start()
        tasks = run.tasks(24)
    check(Counter(task.row for task in tasks) == {'a': 12, 'b': 8, 'c': 4}, 'turns go by weight')
    draw(path, 'wrr: of every 6 turns, weights 3, 2 and 1 get 3, 2 and 1, well mixed', [
        Panel(tasks, turn_rows(tasks, {name: f'{name}, weight {weight}' for name, weight in weights.items()}),
              marks=[Mark(tasks[first].start - 0.001, f'{first} turns') for first in (6, 12, 18)])])
    return turns(tasks)


def dwrr(path: Path) -> str:
    seconds = {'a': 0.34, 'b': 0.01}
    panels, told = [], []
    for algorithm, heading in ('wrr', 'wrr: a turn costs 1'), ('dwrr', 'dwrr: a turn costs its seconds'):
        with running(QoS(algorithm=algorithm)) as run:
            for name, times in ('a', 12), ('b', 260):
                run.send(name, times, seconds[name] * 1000, tenant=name)
            run.start()
            run.at(4.4)
            tasks = run.tasks()
        # Whole rounds only.
        tasks = tasks[:tasks.index(of('a', tasks)[-1])]
        work = {name: sum(task.seconds for task in of(name, tasks)) for name in seconds}
        shares = {name: work[name] / sum(work.values()) for name in seconds}
        rows = [Row(name, colour, f'{shares[name]:.0%} of time', f'{name}, {length(seconds[name])} each')
                for colour, name in enumerate(seconds)]
        panels.append(Panel(tasks, rows, heading))
        told.append(f'{algorithm} {shares["a"]:.0%} to {shares["b"]:.0%}')
    check(shares['a'] < 0.6, 'dwrr shares time by halves')
    draw(path, 'dwrr: equal weights get equal time of the worker, however long the tasks are', panels)
    return ', '.join(told)


def sub_queues(path: Path) -> str:
    weights = {'high': 250, 'medium': 600, 'low': 150}
    with running(QoS(queues=[SubQueue(name, 1000, weight) for name, weight in weights.items()])) as run:
        for name in weights:
            run.send(name, 14, 50, sub_queue=name)
        run.start()
        tasks = run.tasks(21)
    for first in 0, 7, 14:
        check(Counter(task.row for task in tasks[first:first + 7]) == {'high': 2, 'medium': 4, 'low': 1},
              'every 7 turns are 2, 4 and 1')
    draw(path, 'Sub-queues: weights 250, 600 and 150 are 2, 4 and 1 of every 7 turns', [
        Panel(tasks, turn_rows(tasks, {name: f'{name}, {weight}' for name, weight in weights.items()}),
              marks=[Mark(tasks[first].start - 0.001, f'{first} turns') for first in (7, 14)])])
    return turns(tasks)


def keys(path: Path) -> str:
    users = [f'user {number}' for number in range(1, 6)]
    panels, told = [], []
    for heading, key in (("tenant='acme-1' … 'acme-5': six tenants", 'acme-{}'.format),
                         ("tenant=('acme', '1') … ('acme', '5'): two tenants", lambda user: ('acme', user))):
        with running(QoS()) as run:
            for user in users:
                run.send(user, 8, 50, tenant=key(user[-1]))
            run.send('globex', 20, 50, tenant='globex')
            run.start()
            tasks = run.tasks(24)
        turns_of_globex = len(of('globex', tasks))
        told.append(f'globex {turns_of_globex} of 24 turns')
        panels.append(Panel(tasks, [*(Row(user, 0, label=f'acme, {user}') for user in users),
                                    Row('globex', 1, f'{turns_of_globex} of 24')], heading))
    check(told == ['globex 4 of 24 turns', 'globex 12 of 24 turns'], 'tuple keys share by their first part')
    draw(path, 'Tuple keys: acme gains nothing by having five users', panels)
    return ', '.join(told)


def cap(path: Path) -> str:
    panels, told = [], []
    for heading, tenant in (
            ('a without a limit', Tenant()),
            ('a with max_in_flight=1: other slots are b’s, or idle', Tenant(max_in_flight=1)),
            ('a with max_in_flight=1, burst=2: idle ones are lent', Tenant(max_in_flight=1, burst=2))):
        with running(QoS(tenants={'a': tenant}), slots=4) as run:
            for name, times in ('a', 16), ('b', 20):
                run.send(name, times, 60, tenant=name)
            run.start()
            tasks = run.tasks(36)
        most = max(sum(other.start <= task.start < other.end for other in of('a', tasks)) for task in of('a', tasks))
        told.append(f'at most {most} of a at a time')
        panels.append(Panel(tasks, [Row('a', 0), Row('b', 1)], heading, lettered=True))
    check(told[1:] == ['at most 1 of a at a time', 'at most 3 of a at a time'], 'a keeps to its limit, and borrows')
    draw(path, 'max_in_flight: b has what a may not use; burst: a borrows what nobody else wants', panels, slots=4)
    return ', '.join(told)


def rate(path: Path) -> str:
    pause, resume = 0.8, 1.5
    with running(QoS(tenants={'b': Tenant(rate='5/s')})) as run:
        for name in 'abc':
            run.send(name, 60, 40, tenant=name)
        run.start()
        control = celery_qos.control(run.app)
        run.at(pause)
        control.set_tenant('c', paused=True)
        run.at(resume)
        control.set_tenant('c', paused=False)
        run.at(2.3)
        tasks = run.tasks()
    check(not any(pause + 0.1 < task.start < resume for task in of('c', tasks)), 'c is paused')
    check(9 <= len(of('b', tasks)) <= 13, 'b has five turns a second')
    draw(path, 'rate and paused: a gets what b and c may not use, and the worker never idles', [
        Panel(tasks, turn_rows(tasks, {'a': 'a, no limit', 'b': 'b, rate 5/s', 'c': 'c, paused'}),
              marks=[Mark(pause, 'c is paused'), Mark(resume, 'c goes on')])])
    return ', '.join(f'{name} {len(of(name, tasks))} turns' for name in 'abc')


def returning(path: Path) -> str:
    with running(QoS()) as run:
        run.send('a', 40, 40, tenant='a')
        run.send('b', 5, 40, tenant='b')
        run.start()
        run.at(1)
        run.send('b', 15, 40, tenant='b')
        back = run.now
        tasks = run.tasks(40)
    later = turns([task for task in tasks if task.start > back])
    check(2 * later.count('b') in range(len(later.split()) - 2, len(later.split()) + 3), 'each has half from then on')
    draw(path, 'b was idle, and comes back: every second turn from then on, nothing made up for', [
        Panel(tasks, turn_rows(tasks, {'a': 'a', 'b': 'b'}), marks=[Mark(back, 'b is back')])])
    return later


def bound(path: Path) -> str:
    slots, random = 4, Random(7)
    with running(QoS(), slots) as run:
        for _ in range(140):
            for name in 'ab':
                run.send(name, 1, random.choice([20, 30, 40, 100]), tenant=name)
        run.start()
        tasks = sorted(run.tasks(200), key=lambda task: task.end)
    drift = list(accumulate(1 if task.row == 'a' else -1 for task in tasks))
    limit = (slots + 1) * (1 + 1)
    most = max(map(abs, drift))
    check(max(drift) - min(drift) <= limit, 'the bound holds')
    draw_drift(path, f'{slots} slots, equal weights: a and b may be {limit} tasks apart, and are {most} at most here',
               [(task.end, apart) for task, apart in zip(tasks, drift)], limit, ('a is ahead', 'b is ahead'))
    return f'at most {most} apart, of {limit}'


#: By the name of the file.
PICTURES: dict[str, Callable[[Path], str]] = {
    name.__name__.replace('_', '-'): name
    for name in (stock, pq, rr, wrr, dwrr, sub_queues, keys, cap, rate, returning,
                 bound)}


@click.command()
@click.option('--to', 'folder', type=click.Path(file_okay=False, path_type=Path),
              default=Path(__file__).with_suffix(''), help='Where they are written.')
@click.argument('names', nargs=-1, type=click.Choice(list(PICTURES)))
def main(folder: Path, names: Sequence[str]) -> None:
    """Draw the pictures of docs/algorithms.md from real runs, or those named."""
    folder.mkdir(exist_ok=True)
    for name in names or PICTURES:
        click.echo(f'{name}: {PICTURES[name](folder / f"{name}.svg")}')


if __name__ == '__main__':
    main()
