"""A random storm of publishing, acks, rejects and workers that come, go and die: the slots hold, nothing is lost."""
from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice, pairwise
from random import Random
from time import monotonic, sleep, time
from typing import NamedTuple

import pytest

from celery_qos import keys

from ..until import until
from .ledger import Ledger
from .workers import Worker

#: Pool and concurrency of the workers, in the order in which they come.
POOLS = [('prefork', 2), ('threads', 4), ('gevent', 3)]
#: Tenant to the tasks that it has waiting at most: 'steady' drains and returns all the time.
BACKLOGS = {'steady': 1, 'b': 15, 'c': 30, 'bulk': 60}
#: Seconds after which no further worker goes.
STORM = 18.0
#: Workers go this often each way, unless the machine is slow; once each way always.
TIMES = 3

NS = keys.namespace('celery')


class Entry(NamedTuple):
    """An entry of egress; ids are in the order in which they were dispatched."""

    entry_id: tuple[int, ...]
    mark: str
    redelivered: bool


class Sample(NamedTuple):
    """What the queue's keys say in one instant."""

    at: float
    entries: list[Entry]
    slots: dict[bytes, int]
    tenants_waiting: int


class Watcher(threading.Thread):
    """Takes samples until it is told to stop."""

    SAMPLE = '''
        local entries = {}
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
          local mark, redelivered = '', 0
          for i = 1, #entry[2], 2 do
            if entry[2][i] == 'headers' then mark = string.match(entry[2][i + 1], '"id": "([^"]+)"') end
            if entry[2][i] == 'redelivered' then redelivered = 1 end
          end
          entries[#entries + 1] = {entry[1], mark, redelivered}
        end
        return {entries, redis.call('HGETALL', KEYS[2]), redis.call('HLEN', KEYS[3])}'''

    def __init__(self, redis) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.stopping = threading.Event()
        self._sample = redis.register_script(self.SAMPLE)

    def run(self) -> None:
        while not self.stopping.wait(0.005):
            entries, slots, waiting = self._sample([keys.egress(NS), keys.slots(NS), keys.waiting(NS)])
            pairs = iter(slots)
            self.samples.append(Sample(
                monotonic(),
                [Entry(tuple(map(int, entry_id.split(b'-'))), mark.decode(), bool(redelivered))
                 for entry_id, mark, redelivered in entries],
                {consumer: int(count) for consumer, count in zip(pairs, pairs)}, waiting))

    @contextmanager
    def watching(self):
        self.start()
        try:
            yield self
        finally:
            self.stopping.set()
            self.join()


class Storm:
    """Publishes, and has workers come and go."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger, self.seed, self.random = ledger, seed, Random(seed)
        #: Task id to the task's name.
        self.published: dict[str, str] = {}
        self.over = threading.Event()
        self.stack = ExitStack()
        self.workers: list[Worker] = []
        self.killed: list[Worker] = []
        self.left: list[Worker] = []
        #: Name of a prefork worker to when it was told to stop.
        self.told: dict[str, float] = {}
        self._pools = cycle(POOLS)

    @contextmanager
    def publishing(self):
        threads = [threading.Thread(target=self._publish, args=(tenant, backlog), daemon=True)
                   for tenant, backlog in BACKLOGS.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def _publish(self, tenant: str, backlog: int) -> None:
        """One thread a tenant, so that the numbers of its tasks are in the order of publishing."""
        random, redis, number = Random(f'{self.seed} {tenant}'), self.ledger.server.client(), 0
        with self.ledger.publishing() as send:
            while not self.over.wait(random.random() / 20):
                room = backlog - int(redis.hget(keys.waiting(NS), keys.tenant_id(tenant)) or 0)
                for _ in range(min(room, random.randrange(1, 9))):
                    mark, task = f'{tenant} {number}', random.choice(['early', 'early', 'late', 'late', 'picky'])
                    self.published[mark] = task
                    send(tenant, mark, random.choice([0, 0.05, 0.2]), task, task_id=mark)
                    number += 1

    def come(self, workers: int = 1) -> None:
        new = [self.stack.enter_context(self.ledger.worker(*pool, ready=False))
               for pool in islice(self._pools, workers)]
        for worker in new:
            worker.wait_for(r'\bready\.')
        self.workers += new

    def go(self, way: str) -> None:
        worker = self.workers.pop(self.random.randrange(len(self.workers)))
        if way == 'killed':
            worker.kill()
            self.killed.append(worker)
        else:
            if worker.pool == 'prefork':
                self.told[worker.name] = time()
            worker.terminate()
            self.left.append(worker)

    def rage(self) -> None:
        deadline = monotonic() + STORM
        rest = ['killed', 'left'] * (TIMES - 1)
        self.random.shuffle(rest)
        for turn, way in enumerate(['killed', 'left', *rest]):
            if turn > 1 and monotonic() > deadline:
                break
            sleep(self.random.uniform(0.3, 1.5))
            self.go(way)
            if self.random.random() < 0.5:
                sleep(self.random.uniform(0, 1))
            self.come()

    def calm(self) -> None:
        """Until all is done and what the dead held is taken over; then the workers stop."""
        # Where Celery's prefork pool loses a message of a child in its warm shutdown, it may wait for half a minute.
        for worker in self.left:
            worker.wait()
        self.ledger.until_idle()
        until(lambda: self.ledger.redis.zcard(keys.leases(NS)) == len(self.workers), what='the leases of the dead end')
        while self.workers:
            self.go('left')
        for worker in self.left:
            assert worker.wait() == 0, worker.log()

    def stalled(self) -> set[str]:
        """Names of the workers whose lease ended; besides the dead, those that the machine gave no time to renew it."""
        by_pid = {worker.pid: worker.name for worker in self.killed + self.left}
        logs = ''.join(worker.log() for worker in self.killed + self.left)
        return {by_pid[int(pid)] for pid in re.findall(r'the lease of \S+:(\d+):\S+ on queue', logs)}


@pytest.fixture(params=[20261121])
def storm(server, request):
    ledger = Ledger(server, {'broker_transport_options': {'qos': {'lease_seconds': 2}}})
    return Storm(ledger, request.param)


@pytest.mark.full
def test_a_storm(storm):
    watcher = Watcher(storm.ledger.server.client())
    with storm.stack:
        with watcher.watching():
            with storm.publishing():
                storm.come(3)
                storm.rage()
            storm.calm()
        print(f'{len(storm.published)} tasks, {len(watcher.samples)} samples, '
              f'{len(storm.killed)} workers killed, {len(storm.left)} left')
        assert storm.ledger.stray_keys() == []
        slots_are_kept(watcher.samples)
        slots_are_used(watcher.samples)
        first_in_first_out(watcher.samples)
        nothing_is_lost_or_doubled(storm)


def slots_are_kept(samples: list[Sample]) -> None:
    """No task is dispatched where egress holds as many entries as there are slots, redelivered ones included.

    Of the entries dispatched between two samples, take the newest that is in the second one. All entries before it
    were there when it came, so with it there were no more than the slots of that instant: for each worker, at most
    the greater of what it has in either sample. Entries beyond the slots are thus redelivered, or were dispatched into
    slots that went away later.
    """
    checked = full = 0
    last = (0, 0)
    for before, after in pairwise(samples):
        last = max([last, *(entry.entry_id for entry in before.entries)])
        new = [entry.entry_id for entry in after.entries if entry.entry_id > last and not entry.redelivered]
        if not new or after.at - before.at > 1:     # so long that a worker might have come and gone unseen
            continue
        there = sum(entry.entry_id <= max(new) for entry in after.entries)
        slots = sum(max(before.slots.get(each, 0), after.slots.get(each, 0)) for each in before.slots | after.slots)
        assert there <= slots, (before, after)
        checked += 1
        full += there == slots
    assert checked > 50 and full > 20, f'{checked} dispatches seen, {full} of them into the last slot'


def slots_are_used(samples: list[Sample]) -> None:
    """No slot is free while a task waits."""
    for sample in samples:
        assert not sample.tenants_waiting or len(sample.entries) >= sum(sample.slots.values()), sample


def first_in_first_out(samples: list[Sample]) -> None:
    """A tenant's tasks are dispatched in the order in which they were published, each once."""
    dispatched = sorted({(entry.entry_id, entry.mark) for sample in samples for entry in sample.entries
                         if not entry.redelivered})
    numbers = defaultdict(list)
    for _, mark in dispatched:
        tenant, number = mark.split()
        numbers[tenant].append(int(number))
    assert set(numbers) == set(BACKLOGS)
    for tenant, order in numbers.items():
        assert all(one < other for one, other in pairwise(order)), (tenant, order)


def nothing_is_lost_or_doubled(storm: Storm) -> None:
    """Every task ends, and a worker that lives runs it once.

    Again it runs only where a worker took it that was killed, or that lost its lease; or where a child of a prefork
    worker took it at the moment of the warm shutdown: Celery may then never read what the child says of it, neither
    that it has begun nor that it has ended, and never acks it. Lost may be only what Celery acks before it runs, where
    the worker that ran it was killed; where its start was not noted yet, it was one of as many as a worker runs at a
    time.
    """
    def excused(worker: str, at: float) -> bool:
        return worker in killed | stalled or at > storm.told.get(worker, at) - 1

    runs: dict[str, defaultdict[str, list[str]]] = {name: defaultdict(list) for name in ('start', 'end', 'rejected')}
    history, starts_at = defaultdict(list), defaultdict(list)
    for event in storm.ledger.events:
        runs[event['event']][event['mark']].append(event['worker'])
        history[event['mark']].append(f'{event["event"]} {event["worker"]} {event["at"]:.3f}')
        if event['event'] == 'start':
            starts_at[event['mark']].append((event['worker'], event['at']))
    killed, stalled = {worker.name for worker in storm.killed}, storm.stalled()
    assert set(runs['end']) <= set(storm.published)
    unnoted = 0
    for mark, task in storm.published.items():
        starts, ends, rejections = (runs[name][mark] for name in ('start', 'end', 'rejected'))
        story = f'{mark}, {task}: {history[mark]}, killed: {killed}, lease ended: {stalled}, told: {storm.told}'
        assert sum(not excused(*start) for start in starts_at[mark]) <= 1, story
        assert all(count == 1 or worker in stalled - killed for worker, count in Counter(starts).items()), story
        assert len(rejections) <= (task == 'picky'), story
        if not ends:
            assert task == 'early' and set(starts) <= killed, story
            unnoted += not starts
    assert unnoted <= sum(dict(POOLS)[worker.pool] for worker in storm.killed), f'{unnoted} tasks are lost'
    assert runs['rejected'], 'no task was rejected'
