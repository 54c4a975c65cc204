"""What this user may do, compared to the users of docs/security.md."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from .. import keys
from .finding import Finding, bad, ok, warn
from .patient import Patient

__all__ = ('rights',)

PAGE = 'see docs/security.md'

#: Commands that change nothing, as they are about a key that is not there, by who needs them. What the server thinks of
#: them is no matter, only whether it refuses them to this user.
PROBES: dict[str, tuple[tuple[Any, ...], ...]] = {
    'monitor': (
        ('INFO', 'server'), ('EVAL', 'return 1', 1, '{key}'), ('TIME',), ('EXISTS', '{key}'), ('GET', '{key}'),
        ('HMGET', '{key}', 'x'), ('HLEN', '{key}'), ('ZCARD', '{key}'), ('ZSCORE', '{key}', 'x'), ('XLEN', '{key}')),
    'producer': (
        ('HDEL', '{key}', 'x'), ('ZREM', '{key}', 'x'), ('DEL', '{key}'), ('XTRIM', '{key}', 'MAXLEN', 0),
        ('SMEMBERS', '{prefix}_kombu.binding.celery')),
    'worker': (
        ('ZRANGE', '{key}', 0, 0), ('HGETALL', '{key}'), ('XRANGE', '{key}', '-', '+', 'COUNT', 1),
        ('XDEL', '{key}', '1-1'), ('XACK', '{key}', keys.GROUP, '1-1'),
        ('XREADGROUP', 'GROUP', keys.GROUP, 'probe', 'COUNT', 1, 'STREAMS', '{key}', '>'),
        ('XPENDING', '{key}', keys.GROUP), ('RENAME', '{key}', '{key}'), ('BLPOP', '{key}', 0.05),
        ('HRANDFIELD', '{key}'), ('UNLINK', '{key}'), ('CLIENT', 'ID'),
        ('CLIENT', 'UNBLOCK', 0), ('SUBSCRIBE', '/{db}.celery.pidbox')),
}
ROLES = tuple(PROBES)


def rights(patient: Patient) -> Iterator[Finding]:
    """Who may too little stops in the middle of something; who may too much can do harm."""
    key = patient.store.namespace('doctor') + ':probe'
    options = patient.client.get_connection_kwargs()
    words = {'key': key, 'prefix': patient.store.prefix, 'db': options.get('db', 0)}
    refused = {role: [command for command in PROBES[role] if _is_refused(patient.client, command, words)]
               for role in ROLES}
    user = options.get('username') or 'default'
    if refused['monitor']:
        yield bad(f'user {user!r} may not even look: {_names(refused["monitor"])} refused',
                  f'grant what it needs, {PAGE}')
    elif refused['producer']:
        yield warn(f'user {user!r} may look, and not publish: {_names(refused["producer"])} refused',
                   f'that is right for monitoring; producers and workers need another user, {PAGE}')
    elif refused['worker']:
        yield warn(f'user {user!r} may publish, and not work: {_names(refused["worker"])} refused',
                   f'that is right for producers; workers need another user, {PAGE}')
    elif user == 'default' and not options.get('password') and _is_remote(options):
        yield warn('anybody who reaches the server may do anything there: no user, no password',
                   f'make users with the rights that they need, {PAGE}')
    else:
        yield ok(f'user {user!r} may do what a worker does')


def _is_remote(options: dict[str, Any]) -> bool:
    return 'path' not in options and options.get('host') not in ('localhost', '127.0.0.1', '::1', None)


def _names(commands: list[tuple[Any, ...]]) -> str:
    return ', '.join(str(command[0]) for command in commands)


def _is_refused(client: Any, command: tuple[Any, ...], words: dict[str, Any]) -> bool:
    spelled = [part.format(**words) if isinstance(part, str) else part for part in command]
    try:
        if command[0] == 'SUBSCRIBE':
            with client.pubsub() as channel:
                channel.subscribe(spelled[1])
                channel.parse_response(timeout=1)
        else:
            client.execute_command(*spelled)
    except NoPermissionError:
        return True
    except RedisError:
        pass
    return False
