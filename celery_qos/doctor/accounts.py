"""Whether what is noted of a queue is what is there, each looked at atomically: a busy queue is no false alarm."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from time import sleep

from .. import keys
from . import reads
from .audit import Account
from .finding import Finding, bad, counted, mended, ok, warn
from .patient import Patient

__all__ = ('keys_of_other_types', 'orphans', 'tenants', 'totals', 'in_flight', 'delayed')

#: Tenants that one call of a script looks at, and other keys.
AT_ONCE = 20
#: Accounts that one call adds up.
MOST_SUMMED = 2000
#: Tasks in flight that one call counts, and bytes of them.
MOST_IN_FLIGHT, MOST_BYTES = 1000, 4 * 2 ** 20
#: So often an account of nothing is looked at again, so many seconds apart.
LOOKS, PAUSE = 3, 0.02
#: Of what there may be a million of.
MOST_NAMED = 5
FIX = 'celery qos doctor --fix'
#: Kinds of keys that may be left behind, and what that means.
STRAYS = {
    'egress': 'a stream of egress that no worker reads, or without its group',
    'running': 'tasks of a consumer without a lease: they count as in flight for good',
    'ready': 'an order of turns that nobody goes by',
    'finish': 'an account of turns that nobody goes by',
    'owing': 'an account of turns that nobody goes by',
    'aside': 'tenants that a change of settings set aside, and that have no turn',
}
#: The first part of a key's name.
KNOWN = {*reads.TYPES, *STRAYS, 'tenant', 'published', 'waits'}


def keys_of_other_types(patient: Patient) -> Iterator[Finding]:
    """A key that holds something else stops whoever needs it."""
    wrong = reads.wrong_types(patient.store, patient.queue)
    for key, (found, wanted) in wrong.items():
        yield bad(f'{key} is a {found}; it must be a {wanted}: it was written by hand, or by another program',
                  f'look what it is, and delete it: DEL {key}')
    if not wrong:
        yield ok('no key of the queue was overwritten with something else')


def orphans(patient: Patient) -> Iterator[Finding]:
    """Keys of the queue that no account mentions."""
    found: Counter[str] = Counter()
    unknown: list[str] = []
    lost = _Tenants(patient)
    lease = patient.qos.lease_seconds
    for page in reads.kinds(patient.store, patient.queue, patient.progress):
        suspects = [(kind, name) for kind, name in page if kind in STRAYS and (kind != 'egress' or name.isdigit())]
        ids = sorted({name.partition(':')[2] for kind, name in page if kind == 'tenant'})
        for tenant_id in reads.without_account(patient.store, patient.queue, ids):
            lost.look(tenant_id)
        unknown += [f'{kind}:{name}' for kind, name in page if kind not in KNOWN or kind == 'egress' and not
                    name.isdigit()]
        for some in _parts(suspects):
            for (kind, _), stray in zip(some, patient.audit.strays(some, lease)):
                found[kind] += stray
    lost.end()
    for kind, count in found.items():
        if count and patient.fix:
            yield mended(f'{count} times {STRAYS[kind]}: taken up again')
        elif count:
            yield bad(f'{count} times {STRAYS[kind]}', FIX, mends=True)
    yield from lost.findings('tasks that no account mentions')
    if unknown:
        names = ', '.join(unknown[:MOST_NAMED])
        yield warn(f'{len(unknown)} keys of the queue that this release does not know, such as {names}',
                   'another release or program wrote them: look what they are before you delete them')
    if not (sum(found.values()) or unknown or lost.wrong):
        yield ok('every key of the queue is accounted for')


class _Tenants:
    """Compares accounts, some at a time, and mends them."""

    def __init__(self, patient: Patient) -> None:
        self.patient, self.wrong, self.tasks, self.all_tasks = patient, 0, 0, 0
        self.named: list[str] = []
        #: Accounts without tasks of their own.
        self.empty: list[Account] = []
        self._page: list[str] = []

    def look(self, tenant_id: str) -> None:
        if ':' in tenant_id:
            self._page.append(tenant_id)
        if len(self._page) >= AT_ONCE:
            self.end()

    def end(self) -> None:
        page, self._page = sorted(set(self._page)), []
        if not page:
            return
        found = self.patient.audit.tenants(page)
        for each in found:
            self.all_tasks += each.tasks
            if each.noted is not None and not each.tasks:
                # What others are inside has an account, and no stream.
                if not each.inside:
                    self.empty.append(each)
            elif each.noted != each.tasks and each.tasks or each.lost:
                self.note(each)

    def note(self, account: Account) -> None:
        self.wrong += 1
        self.tasks += account.tasks
        if len(self.named) < MOST_NAMED:
            self.named.append(repr(account.id.removeprefix(':').replace(keys.PART, '/')))

    def findings(self, what: str) -> Iterator[Finding]:
        if self.wrong and self.patient.fix:
            yield mended(f'{self.wrong} tenants ({", ".join(self.named)}) had {what}; their {self.tasks} tasks are '
                         'accounted for, and served in turn')
        elif self.wrong:
            yield bad(f'{self.wrong} tenants ({", ".join(self.named)}) have {what}: {self.tasks} tasks, which may '
                      'never be served', FIX, mends=True)


def tenants(patient: Patient) -> Iterator[Finding]:
    """The account of each tenant against its streams; and each has its turn."""
    store, queue = patient.store, patient.queue
    looked, count, writes = _Tenants(patient), 0, reads.count_of_writes(store)
    for page in reads.accounts(store, queue, patient.progress):
        count += len(page)
        for tenant_id in page:
            looked.look(tenant_id)
    looked.end()
    patient.remember('tasks', (looked.all_tasks, writes))
    yield from looked.findings('accounts that are wrong, or no turn')
    empty, unknown = _still(patient, looked.empty)
    if empty and patient.fix:
        if deleted := sum(map(patient.audit.forget, _parts(empty))):
            yield mended(f'{deleted} accounts of tenants without tasks are deleted')
    elif empty:
        yield bad(f'{len(empty)} tenants ({_names(empty)}) are noted to have tasks, and have none', FIX, mends=True)
    if unknown:
        yield warn(f'{len(unknown)} tenants ({_names(unknown)}) are noted to have tasks, and have none, unless limits '
                   'hold all that are inside them', 'ask again when limits hold fewer tenants back')
    empty += unknown
    if not empty and not looked.wrong:
        yield ok(f'{counted(count, "account")} of waiting tasks, all right')


def _still(patient: Patient, empty: list[Account]) -> tuple[list[Account], list[Account]]:
    """Those that have nothing, and those of which that cannot be told; each was looked at some times: of a moment, it
    is no finding."""
    for _ in range(LOOKS):
        if not empty:
            break
        sleep(PAUSE)
        now = {each.id: each for some in _parts(empty) for each in patient.look.tenants([one.id for one in some])}
        empty = [now[each.id] for each in empty
                 if (each.noted, each.tasks) == now[each.id][1:3] and not now[each.id].inside]
    return [each for each in empty if each.inside is False], [each for each in empty if each.inside is None]


def _names(found: list[Account]) -> str:
    return ', '.join(repr(each.id.removeprefix(':').replace(keys.PART, '/')) for each in found[:MOST_NAMED])


def totals(patient: Patient) -> Iterator[Finding]:
    """The accounts of all tenants, of sub-queues, and of all slots, against their sums."""
    found = patient.audit.totals(MOST_SUMMED)
    wrong = []
    if found.slots.noted != found.slots.tasks:
        wrong.append(f'{found.slots.noted} slots are noted, the consumers have {found.slots.tasks}')
    if found.complete:
        if found.waiting.noted != found.waiting.tasks:
            wrong.append(f'{found.waiting.noted} waiting tasks are noted in all, there are {found.waiting.tasks}')
        wrong += [f'{each.noted} waiting tasks are noted in {_name(each.id)}, there are {each.tasks}'
                  for each in found.sums]
        for text in wrong:
            yield mended(f'{text}: counted anew') if patient.fix else bad(text, FIX, mends=True)
        if not wrong:
            yield ok(f'{counted(found.waiting.tasks, "waiting task")}, {counted(found.slots.tasks, "slot")}: the '
                     'totals are right')
        return
    for text in wrong:
        yield mended(f'{text}: counted anew') if patient.fix else bad(text, FIX, mends=True)
    yield from _many(patient)


def _name(tenant_id: str) -> str:
    kind, text = ('tenant', tenant_id.removeprefix(':')) if ':' in tenant_id else ('sub-queue', tenant_id)
    return f'{kind} {text.replace(keys.PART, "/")!r}'


def _many(patient: Patient) -> Iterator[Finding]:
    """Too many to be added up at one time: what is published and served meanwhile may be missed, and nothing else."""
    store, queue = patient.store, patient.queue
    tasks, before = patient.recall('tasks') or _count(patient)
    noted, most = reads.noted_total(store, queue), reads.count_of_writes(store) - before
    if abs(noted - tasks) > most:
        # A hash that grows or shrinks while it is gone through may tell of some twice.
        tasks, before = _count(patient)
        noted, most = reads.noted_total(store, queue), reads.count_of_writes(store) - before
    text = f'{noted} waiting tasks are noted in all, there are {tasks}, give or take {most} that came or went meanwhile'
    if abs(noted - tasks) > most:
        yield warn(text, 'the number is shown only; it is right again when the queue was empty once, or mended when '
                   f'fewer than {MOST_SUMMED} tenants wait')
    else:
        yield ok(text)


def _count(patient: Patient) -> tuple[int, int]:
    """The tasks of all tenants, and how often something had been written before they were counted."""
    before, tasks = reads.count_of_writes(patient.store), 0
    for page in reads.accounts(patient.store, patient.queue, patient.progress):
        for some in _parts([each for each in page if ':' in each]):
            tasks += sum(each.tasks for each in patient.look.tenants(some))
    return tasks, before


def in_flight(patient: Patient) -> Iterator[Finding]:
    """What caps count against what is delivered and runs."""
    count, wrong = patient.audit.flights(MOST_IN_FLIGHT, MOST_BYTES)
    if wrong is None:
        yield ok(f'{count} tasks are in flight: too many, or too large, to compare their accounts at one time; compare '
                 'them when it is quiet')
        return
    for each in wrong[:MOST_NAMED]:
        text = f'{each.noted} tasks of {each.id.replace(keys.PART, "/")} are noted as in flight, {each.tasks} are'
        if patient.fix:
            yield mended(f'{text}: counted anew')
        else:
            yield bad(f'{text}: max_in_flight holds it back too soon or too late', FIX, mends=True)
    if len(wrong) > MOST_NAMED:
        yield bad(f'and {len(wrong) - MOST_NAMED} others', FIX, mends=True) if not patient.fix else \
            mended(f'and {len(wrong) - MOST_NAMED} others')
    if not wrong:
        yield ok(f'{counted(count, "task")} in flight, and the accounts that limits go by are right')


def delayed(patient: Patient) -> Iterator[Finding]:
    """Each delayed task has a due time."""
    store, queue = patient.store, patient.queue
    due, tasks = reads.delayed_counts(store, queue)
    if due == tasks:
        yield ok(f'{tasks} delayed tasks, each with a due time')
        return
    lost = sum(patient.audit.delayed(page)
               for page in reads.delayed_ids(store, queue, patient.progress))
    if lost and patient.fix:
        yield mended(f'{lost} delayed tasks had no due time: they have the one that they were published with')
    elif lost:
        yield bad(f'{lost} delayed tasks have no due time: nobody would look at them again', FIX, mends=True)
    else:
        yield ok(f'{due} due times, {tasks} delayed tasks; the sweep drops those of tasks that are gone')


def _parts(items: list) -> Iterator[list]:
    for at in range(0, len(items), AT_ONCE):
        yield items[at:at + AT_ONCE]
