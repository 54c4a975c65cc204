"""A tenant's place in the scheduling tree: one key, or up to three of them, as one text."""
from __future__ import annotations

from typing import Any

from .errors import TenantKeyError

__all__ = ('path_of', 'parse_path', 'keys_of', 'key_of', 'SEPARATOR', 'MAX_BYTES', 'MAX_KEYS')

#: Between the keys of a path. It is not printable, so no key contains it.
SEPARATOR = '\x1f'
#: Longest key, in bytes of UTF-8.
MAX_BYTES = 255
#: Most keys of one path.
MAX_KEYS = 3


def path_of(key: Any) -> str:
    """The path of a tenant key, or of a tuple or list of up to three of them, as text.

    Raises:
        TenantKeyError: a key is empty, too long, not printable, or a collection; or there are none, or too many.
    """
    if not isinstance(key, (tuple, list)):
        return _text(key)
    if not 1 <= len(key) <= MAX_KEYS:
        raise TenantKeyError(f'tenant key {key!r}: has {len(key)} parts; it must have 1 to {MAX_KEYS}')
    try:
        return SEPARATOR.join(map(_text, key))
    except TenantKeyError as exc:
        raise TenantKeyError(f'tenant key {key!r}: {exc}') from exc.__cause__


def parse_path(key: Any) -> str:
    """The path of what a program calls a tenant: as `path_of`, or the path itself, or '' for the empty tenant.

    Raises:
        TenantKeyError: as `path_of`.
    """
    if isinstance(key, str) and (not key or SEPARATOR in key):
        return path_of(keys_of(key)) if key else ''
    return path_of(key)


def keys_of(path: str) -> list[str]:
    """The keys that `path_of` joined."""
    return path.split(SEPARATOR)


def key_of(path: str) -> str | tuple[str, ...]:
    """What a program calls the tenant of a path: its key, or the tuple of its keys."""
    keys = keys_of(path)
    return keys[0] if len(keys) == 1 else tuple(keys)


def _text(key: Any) -> str:
    if key is None or isinstance(key, (tuple, list, set, frozenset, dict, bytes)):
        raise TenantKeyError(f'tenant key {key!r}: a {type(key).__name__} cannot be one; give text or a number')
    try:
        text = str(key)
    except Exception as exc:
        raise TenantKeyError(f'tenant key of type {type(key).__name__}: cannot be made text: {exc!r}') from exc
    if not text.isprintable():
        raise TenantKeyError(f'tenant key {text!r}: has a character that is not printable')
    size = len(text.encode('utf-8', 'replace'))
    if not 1 <= size <= MAX_BYTES:
        raise TenantKeyError(f'tenant key {text!r}: has {size} bytes of UTF-8; it must have 1 to {MAX_BYTES}')
    return text
