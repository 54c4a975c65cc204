"""Who published, received, started and ended which task, and when: written by all processes, read at the end."""
from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from redis import Redis

__all__ = ('Book', 'History', 'Run', 'Task', 'Fault')

#: Lines read at a time.
CHUNK = 10_000

# The first field of a line.
PUBLISHING = 'P'
PUBLISHED = 'D'
FAILED = 'F'
RECEIVED = 'A'
SENT = 'B'
STARTED = 'S'
ENDED = 'E'
#: The list that a line is in.
LISTS = {PUBLISHING: 'publishing', ENDED: 'ended', PUBLISHED: 'events', FAILED: 'events', RECEIVED: 'events',
         SENT: 'events', STARTED: 'events'}


class Book:
    """Appends lines, without waiting for the server: what was sent before a SIGKILL is in the ledger.

    Thread-safe, and safe across a fork.

    Arguments:
        path: the unix socket of the ledger's server.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid: Optional[int] = None
        self._socket: Optional[socket.socket] = None
        self._lock = threading.Lock()

    def write(self, *lines: tuple) -> None:
        """Lines of one kind; the second field of each is the task's id."""
        texts = ['\t'.join(map(str, line)) for line in lines]
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._open()
        data = _command('RPUSH', LISTS[lines[0][0]], *texts)
        with self._lock:
            assert self._socket is not None
            self._socket.sendall(data)

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(self._path)
        # A server that answers nobody notices no broken connection, and so reads all that was sent.
        self._socket.sendall(_command('CLIENT', 'REPLY', 'OFF'))
        self._pid = os.getpid()


def _command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b'*%d\r\n' % len(parts) + b''.join(b'$%d\r\n%s\r\n' % (len(part), part) for part in parts)


@dataclass
class Fault:
    """What was done, to whom, and from when until when."""

    kind: str
    at: float
    #: Lives of workers (`prefork-1.3`) that were hit.
    hit: list[str]
    until: float = 0.0
    #: Every worker and producer may be hit: the broker itself was.
    everybody: bool = False
    #: Everybody who connects through the proxy may be hit.
    proxied: bool = False
    #: The process where it was one of several.
    pid: int = 0
    #: Tasks that the worker had: (task id, retries, earliest time it may start).
    held: list[tuple[str, int, float]] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One execution."""

    worker: str
    pid: int
    start: float
    redelivered: bool
    end: Optional[float] = None


@dataclass(slots=True)
class Task:
    """What a producer meant to publish, and what became of it."""

    id: str
    #: Name of the task: 'early', 'late', 'part' or 'whole'.
    name: str
    tenant: str
    #: How often it retries before it is done.
    retries: int
    countdown: float
    #: The id of the chord's body, of a part.
    body: str
    begun: float
    published: Optional[float] = None
    failed: Optional[float] = None
    error: str = ''
    #: When a worker was about to publish it, of a chord's body.
    sent: Optional[float] = None
    #: When, and by which worker.
    received: list[tuple[float, str]] = field(default_factory=list)
    #: By number of the retry, in the order of their starts.
    runs: dict[int, list[Run]] = field(default_factory=dict)
    done: Optional[float] = None

    @property
    def late(self) -> bool:
        return self.name != 'early'

    @property
    def first_start(self) -> Optional[float]:
        runs = self.runs.get(0)
        return runs[0].start if runs else None


class History:
    """All of the ledger."""

    def __init__(self, client: Redis) -> None:
        self.tasks: dict[str, Task] = {}
        #: Ids of tasks that ran without having been published.
        self.strange: set[str] = set()
        #: Of each worker's life, when it was given a task.
        self.receipts: dict[str, list[float]] = {}
        self.lines = 0
        later = []
        for line in self._read(client):
            self.lines += 1
            kind, task_id, *rest = line
            if kind == PUBLISHING:
                at, name, tenant, retries, countdown, body = rest
                self.tasks[task_id] = Task(
                    task_id, name, tenant, int(retries), float(countdown), body, float(at))
            else:
                later.append((float(rest[0]), kind, task_id, rest[1:]))
        later.sort(key=lambda each: each[0])
        for at, kind, task_id, rest in later:
            task = self.tasks.get(task_id)
            if kind == RECEIVED:
                self.receipts.setdefault(rest[0], []).append(at)
            if task is None:
                self.strange.add(task_id)
            else:
                self._add(task, at, kind, rest)

    @staticmethod
    def _read(client: Redis) -> Iterator[list[str]]:
        for key in dict.fromkeys(LISTS.values()):
            start = 0
            while lines := client.lrange(key, start, start + CHUNK - 1):
                yield from (line.decode().split('\t') for line in lines)
                start += len(lines)

    @staticmethod
    def _add(task: Task, at: float, kind: str, rest: list[str]) -> None:
        if kind == PUBLISHED:
            task.published = at
        elif kind == FAILED:
            task.failed, task.error = at, rest[0]
        elif kind == SENT:
            task.sent = at
        elif kind == RECEIVED:
            task.received.append((at, rest[0]))
        elif kind == STARTED:
            retry, worker, pid, redelivered = rest
            task.runs.setdefault(int(retry), []).append(Run(worker, int(pid), at, redelivered == '1'))
        elif kind == ENDED:
            retry, worker, pid, outcome = rest
            for run in reversed(task.runs.get(int(retry), ())):
                if run.end is None and run.worker == worker and run.pid == int(pid):
                    run.end = at
                    break
            if outcome == 'done' and task.done is None:
                task.done = at


def now() -> float:
    return time.time()
