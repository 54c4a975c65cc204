"""Runs the checks, one after the other."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Optional

from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from ..scripts import WritesRefused, complaint
from . import accounts, queue, rights, server
from .finding import Finding, bad, warn
from .patient import Patient, Progress, no_progress

__all__ = ('examine', 'CHECKS')

Check = Callable[[Patient], Iterator[Finding]]

#: Of the server, asked once.
SERVER: tuple[Check, ...] = (
    server.version, server.persistence, server.memory, server.replication, server.clock, server.connections,
    rights.rights, queue.schemas)
#: Of each queue, in the order in which one mends for the next.
QUEUE: tuple[Check, ...] = (
    queue.schema, queue.config, queue.prefetch, accounts.keys_of_other_types, accounts.orphans, accounts.tenants,
    accounts.totals, accounts.in_flight, accounts.delayed, queue.leases, queue.overdue, queue.idle_slots,
    queue.dead_letters)
CHECKS = SERVER + QUEUE


def examine(app: Any, queues: Sequence[str], fix: bool = False,
            progress: Optional[Progress] = None) -> Iterator[Finding]:
    """What the checks find, each as soon as it is known.

    Arguments:
        fix: mend what can be mended without a risk.
        progress: called now and then with what is looked at, how much of it was, and of how much.
    """
    with app.pool.acquire(block=True) as connection:
        channel = connection.default_channel
        patient = Patient(app, channel.store, channel.config, fix, progress or no_progress)
        for check in SERVER:
            yield from _run(check, patient)
        fix = fix and patient.refusal is None
        for name in queues:
            for check in QUEUE:
                yield from _run(check, replace(patient, queue=name, fix=fix))


def _run(check: Check, patient: Patient) -> Iterator[Finding]:
    name = check.__name__
    try:
        for finding in check(patient):
            remedy = finding.remedy
            if finding.mends and patient.refusal:
                remedy += ', where the server takes writes'
            yield replace(finding, check=name, queue=patient.queue, remedy=remedy)
    except (ReadOnlyError, WritesRefused, OutOfMemoryError) as exc:
        yield replace(bad(f'Redis refuses to mend: {complaint(exc)}', 'see to the server first, and run the doctor '
                          'again'), check=name, queue=patient.queue)
    except NoPermissionError as exc:
        yield replace(warn(f'this user may not look: {exc}', 'run the doctor as the user of the workers, see '
                           'docs/security.md'), check=name, queue=patient.queue)
    except ResponseError as exc:
        yield replace(warn(f'Redis refuses to look: {complaint(exc)}', 'mend what the other checks find, and run the '
                           'doctor again'), check=name, queue=patient.queue)
