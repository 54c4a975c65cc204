"""The tasks of a queue that could not be delivered, or found no room."""
from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Optional

from kombu.utils.json import dumps

from .codec import object_of, time_of
from .paged import Paged
from .path import key_of

if TYPE_CHECKING:
    from .store import Store

__all__ = ('DeadLetters', 'DeadLetter')

#: Id and fields of a dead letter.
Row = tuple[str, dict[bytes, bytes]]
#: Fields that `DeadLetter` has by other names.
_KNOWN = (b'reason', b'tenant', b'sub', b'deliveries', b'enqueued', b'headers', b'properties', b'body')


class DeadLetter(NamedTuple):
    """What is left of a task, or of an entry that was none."""

    letter_id: str
    #: Why it is here: ``delivered 5 times``, ``rejected``, ``full``, or ``malformed:`` and what is wrong with it.
    reason: str
    died: datetime
    #: When it was published, as far as that is known.
    enqueued: Optional[datetime]
    #: How many deliveries of it failed.
    deliveries: int
    tenant: str | tuple[str, ...]
    sub_queue: str
    task_id: str
    #: The task's name.
    name: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    #: As it was serialized.
    body: bytes
    #: Whatever else the entry had.
    other: dict[bytes, bytes]

    @property
    def as_json(self) -> dict[str, Any]:
        """The same as JSON has it; the body as text where it is UTF-8, else as `body_base64`."""
        data = {**self._asdict(), 'died': self.died.isoformat(),
                'enqueued': self.enqueued and self.enqueued.isoformat()}
        other = {name.decode(errors='replace'): value.decode(errors='replace')
                 for name, value in data.pop('other').items()}
        try:
            data['body'] = self.body.decode()
        except UnicodeDecodeError:
            del data['body']
            data['body_base64'] = b64encode(self.body).decode()
        return {**data, 'other': other}


class DeadLetters(Paged[Row, DeadLetter]):
    """A collection of `DeadLetter`, the oldest first."""

    def _count(self, store: Store) -> int:
        return store.count_dead_letters(self.queue)

    def _page(self, store: Store, last: Optional[Row]) -> list[Row]:
        return store.dead_letters(self.queue, last[0] if last else '')

    def _item(self, row: Row) -> DeadLetter:
        return _letter(*row)

    def past(self, letter_id: str) -> Iterator[DeadLetter]:
        """Those that died after the one of this id, whether it is still there or not; all for ''."""
        return self._past((letter_id, {}) if letter_id else None)

    def newest(self, before: str = '', count: int = 100) -> list[DeadLetter]:
        """The newest `count`, the newest first; of those older than the one with the id `before`, where it is given."""
        with self._store() as store:
            rows = store.newest_dead_letters(self.queue, before, count)
        return [self._item(row) for row in rows]

    def get(self, letter_id: str) -> Optional[DeadLetter]:
        """The one of this id, or None where there is none."""
        with self._store() as store:
            fields = store.dead_letter(self.queue, letter_id)
        return None if fields is None else _letter(letter_id, fields)

    def requeue(self, *letter_ids: str) -> int:
        """Have these delivered again, as if they had just been published; returns how many there were."""
        return self._exhume(letter_ids, again=True)

    def delete(self, *letter_ids: str) -> int:
        """Forget these; returns how many there were."""
        return self._exhume(letter_ids, again=False)

    def export(self, file: IO[str]) -> int:
        """Write each as a line of JSON; returns how many there are. They stay where they are."""
        written = 0
        for letter in self:
            file.write(self.line(letter))
            written += 1
        return written

    def line(self, letter: DeadLetter) -> str:
        """A letter as a line of JSON, with the name of its queue first."""
        return dumps({'queue': self.queue, **letter.as_json}, ensure_ascii=True) + '\n'

    def _exhume(self, letter_ids: tuple[str, ...], again: bool) -> int:
        with self._store() as store:
            return store.exhume(self.queue, letter_ids, again)


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    text = {name: fields.get(name, b'').decode(errors='replace') for name in _KNOWN[:5]}
    headers = object_of(fields.get(b'headers'))
    return DeadLetter(
        letter_id, text[b'reason'], _time(letter_id), _time(text[b'enqueued']) if text[b'enqueued'] else None,
        _number(text[b'deliveries']),
        key_of(text[b'tenant']), text[b'sub'], str(headers.get('id', '')),
        str(headers.get('task', '')), headers, object_of(fields.get(b'properties')), fields.get(b'body', b''),
        {name: value for name, value in fields.items() if name not in _KNOWN})


def _time(entry_id: str) -> datetime:
    """When the server made an entry of a stream."""
    ms, _, _ = entry_id.partition('-')
    return time_of(_number(ms))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0
