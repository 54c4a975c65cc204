"""What a queue has much of, read from Redis some at a time."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from .store import Store

__all__ = ('Paged',)

Row = TypeVar('Row')
Item = TypeVar('Item')


class Paged(ABC, Generic[Row, Item]):
    """A collection that has a length and can be gone through; it is read as it is then.

    Arguments:
        store: opens a `Store`.
        queue: the queue's name.
    """

    def __init__(self, store: Callable[[], AbstractContextManager[Store]], queue: str) -> None:
        self._store, self.queue = store, queue

    def __len__(self) -> int:
        with self._store() as store:
            return self._count(store)

    def __iter__(self) -> Iterator[Item]:
        return self._past(None)

    def _past(self, last: Optional[Row]) -> Iterator[Item]:
        """Those that come after `last`."""
        while True:
            with self._store() as store:
                page = self._page(store, last)
            if not page:
                return
            yield from map(self._item, page)
            last = page[-1]

    @abstractmethod
    def _count(self, store: Store) -> int: ...

    @abstractmethod
    def _page(self, store: Store, last: Optional[Row]) -> list[Row]:
        """Some that come after `last`, or the first ones."""

    @abstractmethod
    def _item(self, row: Row) -> Item: ...
