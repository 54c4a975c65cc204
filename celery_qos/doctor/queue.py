"""Whether a queue is at work: its config, leases, sweep, slots and dead letters."""
from __future__ import annotations

from collections.abc import Iterator
from time import sleep

from ..errors import SchemaMismatch
from ..look import Look
from ..store import SCHEMA_VERSION
from . import reads
from .finding import Finding, bad, counted, mended, ok, warn
from .patient import Patient

__all__ = ('schemas', 'schema', 'config', 'prefetch', 'leases', 'overdue', 'idle_slots', 'dead_letters')

#: Seconds after which the sweep of any worker would have seen to it; its loops rest for 10 s at most.
OVERDUE = 15.0
#: Seconds that prefetched tasks may wait in a worker before it is worth a word.
LONG = 5.0
#: Of `max_dead_letters`.
NEARLY_FULL = 0.8
#: So often slots are looked at, so many seconds apart: free ones are filled within one call of a script.
LOOKS, PAUSE = 4, 0.25


def schemas(patient: Patient) -> Iterator[Finding]:
    """All queues on the server, those of other apps included, are of this release."""
    others, count = {}, 0
    for name, version in reads.schemas(patient.store, patient.progress):
        count += 1
        if version != SCHEMA_VERSION:
            others[name] = version
    for name, version in sorted(others.items())[:10]:
        yield warn(f'queue {name!r} is stored with schema version {version}, this celery-qos uses {SCHEMA_VERSION}',
                   'run one release everywhere; or drain the queue with the release that made it, and delete it')
    if not others:
        yield ok(f'{counted(count, "queue")} on this server, all of schema version {SCHEMA_VERSION}')


def schema(patient: Patient) -> Iterator[Finding]:
    """Whether this release can work with what is stored."""
    found = reads.settings(patient.store, patient.queue, 'schema')[0]
    if found is None:
        yield warn('the queue has no settings: nobody has declared it yet, or they were deleted',
                   'start a worker, or publish a task')
    elif found != SCHEMA_VERSION:
        yield bad(str(SchemaMismatch(patient.queue, found, SCHEMA_VERSION)),
                  'run one release on all producers and workers')
    else:
        yield ok(f'schema version {found}')


def config(patient: Patient) -> Iterator[Finding]:
    """What was stored is what this app's config says."""
    qos = patient.qos
    fingerprint, structure = reads.settings(patient.store, patient.queue, 'config', 'structure')
    if not patient.configured.has(patient.queue):
        yield ok('this app has no QoS of its own for the queue, and leaves what others stored')
    elif fingerprint is None:
        yield ok('no config is stored yet; the first worker or producer stores its own')
    elif structure != reads.as_json(qos.structure):
        yield bad(f'the queue is at work with {structure}, the config of this app says {reads.as_json(qos.structure)}: '
                  'processes with this config do not start', 'start every producer and worker with the same config, or '
                  'change it by celery_qos.control(app).configure()')
    elif fingerprint != qos.fingerprint:
        yield warn('the stored config is another one than this app has: processes with different configs take turns in '
                   'storing theirs', 'start every producer and worker with the same config')
    else:
        yield ok('the stored config is the one of this app')


def prefetch(patient: Patient) -> Iterator[Finding]:
    """Prefetched tasks wait in one worker while others may be idle."""
    multiplier = patient.app.conf.worker_prefetch_multiplier
    waits = reads.held_seconds(patient.store, patient.queue)
    middle = waits[len(waits) // 2] if waits else 0.0
    if multiplier != 1 and middle > LONG:
        yield warn(f'worker_prefetch_multiplier is {multiplier}, and half of the delivered tasks are in their worker '
                   f'for more than {middle:.0f} s: most of them wait there, out of reach of the fair order',
                   'set worker_prefetch_multiplier = 1 where tasks take seconds')
    else:
        yield ok(f'worker_prefetch_multiplier is {multiplier}; delivered tasks do not wait long in their worker'
                 if waits else f'worker_prefetch_multiplier is {multiplier}; nothing is delivered now')


def leases(patient: Patient) -> Iterator[Finding]:
    """A lease that ended is to be noticed by the sweep of any other worker."""
    live, ended = reads.leases(patient.store, patient.queue)
    lost = {name: seconds for name, seconds in ended.items() if seconds > OVERDUE}
    unleased = reads.slots_without_lease(patient.store, patient.queue)
    if not lost and not unleased:
        waiting = patient.store.size(patient.queue) or 0
        if not live and waiting:
            wait = 'waits' if waiting == 1 else 'wait'
            yield warn(f'{counted(waiting, "task")} {wait}, and no worker has a lease', 'start a worker for this queue')
        else:
            yield ok(f'{counted(len(live), "consumer")} {"has" if len(live) == 1 else "have"} a lease')
        return
    for name in unleased:
        if patient.fix:
            # A worker that lives renews it long before it ends.
            reads.grant_lease(patient.store, patient.queue, name, patient.qos.lease_seconds)
            yield mended(f'consumer {name} had slots and no lease: it has one; where it is dead, that ends, and the '
                         'sweep takes them back')
        else:
            yield bad(f'consumer {name} has slots and no lease: they count as free, and nobody takes them back',
                      'celery qos doctor --fix', mends=True)
    if not lost:
        return
    text = (f'the leases of {counted(len(lost), "consumer")} ended up to {max(lost.values()):.0f} s ago, and no sweep '
            'has noticed')
    yield _swept(patient, text, 'their tasks are with the other workers')


def overdue(patient: Patient) -> Iterator[Finding]:
    """A delayed task that is due is to be noticed by the sweep of any worker."""
    late = reads.overdue_seconds(patient.store, patient.queue)
    if late is None or late < OVERDUE:
        yield ok(f'{counted(patient.store.count_delayed(patient.queue), "delayed task")}, none overdue')
    else:
        yield _swept(patient, f'a delayed task is due for {late:.0f} s, and no sweep has noticed',
                     'it waits for its turn')


def _swept(patient: Patient, text: str, done: str) -> Finding:
    # Redis was away for longer than a lease: live workers must have had the time to renew theirs.
    fresh = int(patient.info.get('uptime_in_seconds', 0)) < patient.qos.lease_seconds
    if not patient.fix or fresh:
        return bad(text, 'start a worker for this queue, or: celery qos doctor --fix', mends=True)
    for _ in range(10_000):
        # Consumers without a lease are given one as long, too.
        sweep = patient.store.sweep(patient.queue, patient.qos.lease_seconds, 'doctor')
        if not sweep.holds or not sweep.moved and all(each.done for each in sweep.recoveries):
            break
    patient.store.leave_sweep(patient.queue, 'doctor')
    if not sweep.holds:
        return warn(f'{text}; a worker has the right to sweep and has just come', 'run the doctor again in a minute')
    return mended(f'{text}: swept now, {done}')


def idle_slots(patient: Patient) -> Iterator[Finding]:
    """A free slot and a task that may be served are not to be there for longer than a moment."""
    free = 0
    for look in range(LOOKS):
        if look:
            sleep(PAUSE)
        free = Look(patient.store).glance(patient.queue).idle_slots
        if not free:
            yield ok('no slot is idle while a task waits that may be served')
            return
    text = f'{counted(free, "slot")} {"is" if free == 1 else "are"} idle, though tasks wait that may be served'
    if patient.fix:
        patient.audit.fill()
        yield mended(f'{text}: they are filled')
    else:
        yield bad(text, 'celery qos doctor --fix', mends=True)


def dead_letters(patient: Patient) -> Iterator[Finding]:
    """Beyond `max_dead_letters` the oldest ones go."""
    count, text = patient.store.count_dead_letters(patient.queue), reads.settings(
        patient.store, patient.queue, 'max_dead_letters')[0]
    most = int(text) if text and text.isdigit() else 100_000
    remedy = 'celery qos dead list; then requeue, export or delete them'
    if count >= most:
        yield bad(f'{counted(count, "dead letter")}, as many as max_dead_letters keeps: the oldest one goes for each '
                  'new one', remedy)
    elif count >= NEARLY_FULL * most:
        yield warn(f'{counted(count, "dead letter")}, of {most} that are kept', remedy)
    else:
        yield ok(f'{counted(count, "dead letter")}, of {most} that are kept')
