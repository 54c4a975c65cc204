"""What the page asks and tells: `Control` as JSON. Reading is for all, the rest for who has the token."""
from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from math import inf
from re import fullmatch
from threading import Lock
from time import time
from typing import Any, NamedTuple, Optional

from kombu.exceptions import KombuError
from redis.exceptions import RedisError, ResponseError

from .. import __version__
from ..app import Control
from ..errors import QoSError
from ..notices import reason
from ..observe import SORTS, TenantStatus, Waits
from .recent import Recent

__all__ = ('Api', 'Reply', 'MOST_TENANTS')

logger = logging.getLogger(__name__)

#: Tenants of one answer at most.
MOST_TENANTS = 200
#: Tenants of the flow picture: those with the most tasks waiting, and those that were served most.
LANES = 8
#: Dead letters of one answer.
PAGE = 50
#: Options of a tenant and of a sub-queue that can be changed here.
TENANT_OPTIONS = ('weight', 'paused', 'max_in_flight', 'rate', 'capacity')
SUB_QUEUE_OPTIONS = ('egress_weight', 'paused', 'max_in_flight', 'rate', 'capacity')
#: In place of a number or a rate: no limit, whatever the config says. JSON has no infinity.
UNLIMITED = 'unlimited'


class Reply(NamedTuple):
    status: int
    data: Any


class Refused(Exception):
    """A request that is not done."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """Answers requests.

    Arguments:
        queues: the ones that may be looked at, the first one by default.
        token: what a request must have to change anything; without one, nothing can be changed.
    """

    def __init__(self, control: Control, queues: list[str], token: Optional[str] = None) -> None:
        self.control, self.queues, self._token = control, queues, token
        self._recent = Recent()
        #: All tenants are looked at for one answer at a time.
        self._scanning = Lock()

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes = b'',
               token: Optional[str] = None) -> Reply:
        """Never raises. The path is what follows ``/api/``."""
        try:
            table = {'GET': READS, 'POST': CHANGES}.get(method)
            if table is None:
                raise Refused(405, f'{method}: only GET and POST are answered')
            find = table.get(path)
            if find is None:
                raise Refused(404, f'{method} /api/{path}: there is no such thing')
            if method == 'POST' or path in GUARDED:
                self._check(token)
            given: Mapping[str, Any] = query if method == 'GET' else _object(body)
            data = find(self, given)
            if method == 'POST':
                self.forget()
            return Reply(200, data)
        except Refused as exc:
            return Reply(exc.status, {'error': str(exc)})
        except QoSError as exc:
            return Reply(400, {'error': str(exc)})
        except ResponseError as exc:
            return Reply(502, {'error': f'Redis refuses: {exc}'})
        except (RedisError, KombuError, OSError) as exc:
            return Reply(503, {'error': f'Redis does not answer: {reason(exc)}'})
        except Exception:
            logger.exception('%s /api/%s', method, path)
            return Reply(500, {'error': 'an error in the server of this page; its log has more'})

    def forget(self) -> None:
        """The next answers are found out anew."""
        self._recent.forget()

    def _check(self, token: Optional[str]) -> None:
        if self._token is None:
            raise Refused(403, 'this page is read-only: start it with --token to change things, or to see what '
                               'dead letters carry')
        if token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise Refused(403, 'this needs the token that the page was started with')

    def _queue(self, given: Mapping[str, Any]) -> str:
        queue = given.get('queue') or self.queues[0]
        if queue not in self.queues:
            raise Refused(404, f'queue: {queue!r} is not one of {", ".join(map(repr, self.queues))}')
        return queue

    # -- to read

    def about(self, given: Mapping[str, Any]) -> Any:
        return {'version': __version__, 'app': self.control.app.main or 'celery', 'queues': self.queues,
                'writable': self._token is not None}

    def unlock(self, given: Mapping[str, Any]) -> Any:
        """Tells who has the token that it is the right one."""
        return {}

    def status(self, given: Mapping[str, Any]) -> Any:
        queue = self._queue(given)
        return self._recent.get(('status', queue), lambda: self._status(queue))

    def _status(self, queue: str) -> Any:
        status = self.control.status(queue)
        return {**asdict(status), 'waits': _waits(status.waits), 'at': time(),
                'delivered': self.control.delivered(queue)}

    def lanes(self, given: Mapping[str, Any]) -> Any:
        """The tenants of the flow picture."""
        queue = self._queue(given)
        found: dict[Any, Any] = {}
        for sort in 'waiting', 'rate':
            for each in self._tenants(queue, sort)['tenants'][:LANES]:
                found.setdefault((each['sub_queue'], each['tenant']), each)
        return list(found.values())

    def tenants(self, given: Mapping[str, Any]) -> Any:
        queue, sort, match = self._queue(given), given.get('sort') or 'waiting', given.get('match', '').strip()
        if sort not in SORTS:
            raise Refused(400, f'sort: {sort!r} is not one of {", ".join(SORTS)}')
        top = _whole('top', given.get('top') or '50', MOST_TENANTS)
        found = self._tenants(queue, sort, match)
        return {**found, 'tenants': found['tenants'][:top]}

    def _tenants(self, queue: str, sort: str, match: str = '') -> dict[str, Any]:
        # As many as anybody can ask for, so that who shows more or fewer of them shares one answer.
        def find() -> dict[str, Any]:
            with self._scanning:
                found = self.control.tenants(queue, sort=sort, top=MOST_TENANTS, match=_glob(match))
            return {'at': time(), 'tenants': [_tenant(each) for each in found]}

        return self._recent.get(('tenants', queue, sort, match), find)

    def tenant(self, given: Mapping[str, Any]) -> Any:
        """What one tenant is entitled to, and why its tasks wait."""
        queue, tenant = self._queue(given), _key(given.get('tenant', ''))
        why = self.control.why(tenant, queue, kind='tenant')
        return {'options': self.control.tenant(tenant, queue), 'why': why.sentence}

    def why(self, given: Mapping[str, Any]) -> Any:
        return asdict(self.control.why(given.get('subject', ''), self._queue(given)))

    def settings(self, given: Mapping[str, Any]) -> Any:
        queue = self._queue(given)
        return self._recent.get(('settings', queue), lambda: {
            'queue': self.control.queue(queue), 'egress': self.control.egress(queue),
            'default_tenant': self.control.default_tenant(queue), 'sub_queues': self.control.sub_queues(queue)})

    def dead(self, given: Mapping[str, Any]) -> Any:
        """The newest dead letters before the one of the id `before`, without what they carry."""
        queue, before = self._queue(given), given.get('before', '')
        if before:
            _check_ids(before)
        letters = self.control.dead_letters(queue).newest(before, PAGE + 1)
        return {'total': len(self.control.dead_letters(queue)), 'more': len(letters) > PAGE,
                'letters': [_letter(each) for each in islice(letters, PAGE)]}

    def letter(self, given: Mapping[str, Any]) -> Any:
        """All of one dead letter."""
        letter_id = given.get('id', '')
        _check_ids(letter_id)
        letter = self.control.dead_letters(self._queue(given)).get(letter_id)
        if letter is None:
            raise Refused(404, 'this dead letter is gone')
        return letter.as_json

    # -- to change

    def set_tenant(self, given: Mapping[str, Any]) -> Any:
        if 'tenant' not in given:
            raise Refused(400, 'tenant: is missing')
        tenant = given['tenant']
        options = _options(given.get('options'), TENANT_OPTIONS)
        self.control.set_tenant(tuple(tenant) if isinstance(tenant, list) else tenant, self._queue(given), **options)
        return {}

    def set_sub_queue(self, given: Mapping[str, Any]) -> Any:
        options = _options(given.get('options'), SUB_QUEUE_OPTIONS)
        self.control.set_sub_queue(str(given.get('name', '')), self._queue(given), **options)
        return {}

    def requeue(self, given: Mapping[str, Any]) -> Any:
        return {'done': self.control.dead_letters(self._queue(given)).requeue(*_ids(given))}

    def delete(self, given: Mapping[str, Any]) -> Any:
        return {'done': self.control.dead_letters(self._queue(given)).delete(*_ids(given))}


Find = Callable[[Api, Mapping[str, Any]], Any]
READS: dict[str, Find] = {
    'about': Api.about, 'unlock': Api.unlock, 'status': Api.status, 'lanes': Api.lanes, 'tenants': Api.tenants,
    'tenant': Api.tenant, 'why': Api.why, 'settings': Api.settings, 'dead': Api.dead, 'dead/letter': Api.letter}
CHANGES: dict[str, Find] = {
    'tenant': Api.set_tenant, 'sub-queue': Api.set_sub_queue, 'dead/requeue': Api.requeue, 'dead/delete': Api.delete}
#: What only who has the token may read: the arguments of tasks may be anything.
GUARDED = ('unlock', 'dead/letter')


def _tenant(status: TenantStatus) -> dict[str, Any]:
    data = asdict(status)
    del data['waits']
    return {**data, 'delivered': status.waits.count,
            **{name: getattr(status, name) for name in ('rate', 'p50', 'p95', 'p99')}}


def _waits(waits: Waits) -> dict[str, Any]:
    return {'counts': waits.counts, 'rate': waits.rate, 'seconds': waits.seconds,
            **{f'p{percent}': waits.quantile(percent / 100) for percent in (50, 95, 99)}}


def _letter(letter: Any) -> dict[str, Any]:
    data = letter.as_json
    return {name: data[name] for name in ('letter_id', 'reason', 'died', 'enqueued', 'deliveries', 'tenant',
                                          'sub_queue', 'task_id', 'name')}


def _key(text: str) -> Any:
    """A tenant in a query: its key as JSON, a list for a tuple."""
    try:
        key = json.loads(text)
    except ValueError:
        raise Refused(400, f'tenant: {text!r} is not JSON') from None
    return tuple(key) if isinstance(key, list) else key


def _glob(text: str) -> str:
    """Text that has no wildcard is looked for anywhere in a key."""
    if not text or set('*?') & set(text):
        return text
    return f'*{text.replace("[", "[[]")}*'


def _whole(name: str, text: str, most: int) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= most):
        raise Refused(400, f'{name}: {text!r} is not a whole number from 1 to {most}')
    return int(text)


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        raise Refused(400, 'the body is not JSON') from None
    if not isinstance(data, dict):
        raise Refused(400, 'the body is not a JSON object')
    return data


def _options(given: Any, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, dict) or not given:
        raise Refused(400, 'options: is not an object with at least one option')
    for name in given:
        if name not in known:
            raise Refused(400, f'option: {name!r} cannot be changed here; one of {", ".join(known)}')
    return {name: inf if value == UNLIMITED else value for name, value in given.items()}


def _ids(given: Mapping[str, Any]) -> list[str]:
    ids = given.get('ids')
    if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
        raise Refused(400, 'ids: is not a list of the ids of dead letters')
    _check_ids(*ids)
    return ids


def _check_ids(*ids: str) -> None:
    for each in ids:
        if not fullmatch(r'[0-9]{1,20}-[0-9]{1,20}', each):
            raise Refused(400, f'id: {each!r} is not that of a dead letter, such as 1700000000000-0')
