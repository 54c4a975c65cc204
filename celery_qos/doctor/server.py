"""Whether the server is made for keeping tasks."""
from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

from ..store import MINIMUM_SERVER
from . import reads
from .finding import Finding, bad, counted, ok, warn
from .patient import Patient

__all__ = ('version', 'persistence', 'memory', 'replication', 'clock', 'connections')

#: Seconds by which clocks may differ: nobody sees it; tasks come late or expire too early by it.
SKEW, MUCH_SKEW = 1.0, 30.0
#: Part of the memory beyond which there is little left.
NEARLY_FULL = 0.8
#: Seconds after which a server may close connections that nobody uses.
SHORT_TIMEOUT = 60
MIB = 2 ** 20


def version(patient: Patient) -> Iterator[Finding]:
    """Old servers lack commands that the scripts use."""
    found = str(patient.info.get('redis_version', '?'))
    needed = '.'.join(map(str, MINIMUM_SERVER))
    if patient.info.get('cluster_enabled'):
        yield bad('the server is part of a Redis Cluster, where remote control and events do not work',
                  'use a server of its own, or Sentinel')
    elif tuple(int(part) for part in found.split('.')[:2] if part.isdigit()) < MINIMUM_SERVER:
        yield bad(f'Redis {found} is too old', f'update it to {needed} or later')
    else:
        yield ok(f'Redis {found}; {needed} or later is needed')


def persistence(patient: Patient) -> Iterator[Finding]:
    """What is left of the tasks after a crash of the server."""
    info, fsync, save = patient.info, patient.setting('appendfsync'), patient.setting('save')
    if info.get('aof_enabled'):
        if info.get('aof_last_write_status', 'ok') != 'ok':
            yield bad('the last write of the append-only file failed: Redis takes no writes until one succeeds',
                      'look at the log of Redis; often its disk is full')
        elif fsync == 'no':
            yield warn('the append-only file is on, but the system decides when it is written (appendfsync no): a '
                       'crash of the machine loses the tasks of half a minute', 'CONFIG SET appendfsync everysec')
        else:
            lost = 'nothing' if fsync == 'always' else 'the tasks of about one second'
            yield ok(f'the append-only file is on: a crash of the machine loses {lost}')
        return
    # CONFIG REWRITE fails where the server was started without a file.
    remedy = 'CONFIG SET appendonly yes, and  appendonly yes  in redis.conf, so that it stays after a restart'
    if save or save is None and info.get('rdb_last_save_time', 0) > (
            reads.now(patient.store) - info.get('uptime_in_seconds', 0) + 1):
        if info.get('rdb_last_bgsave_status', 'ok') != 'ok':
            yield bad('the last snapshot failed, and Redis may refuse writes for it',
                      'look at the log of Redis; often its disk is full')
        period = f' (save {save})' if save else ''
        yield warn(f'Redis writes snapshots only{period}: a crash loses what was published since the last one, and '
                   'what was done since then is done again', remedy)
    else:
        yield warn('Redis writes nothing to disk: a restart loses all tasks', remedy)


def memory(patient: Patient) -> Iterator[Finding]:
    """Whether Redis may throw tasks away for want of memory, and how near that is."""
    info = patient.info
    policy, most = str(info.get('maxmemory_policy', 'noeviction')), int(info.get('maxmemory', 0))
    used, machine = int(info.get('used_memory', 0)), int(info.get('total_system_memory', 0))
    remedy = 'CONFIG SET maxmemory-policy noeviction, and keep caches on another server'
    if policy.startswith('allkeys'):
        text = f'maxmemory-policy is {policy}: Redis deletes tasks, and whole queues, where memory is full'
        yield bad(text, remedy) if most else warn(f'{text}; no maxmemory is set, so not yet', remedy)
    elif policy.startswith('volatile'):
        yield warn(f'maxmemory-policy is {policy}: where memory is full, Redis deletes keys that expire: the ids of '
                   'messages that were published lately (a publication that is sent again enters twice), the tokens of '
                   'rates (they begin anew), results; tasks do not expire', remedy)
    else:
        yield ok(f'maxmemory-policy is {policy}: where memory is full, publishing fails, and nothing is deleted')
    limit = most or machine
    if limit and used > NEARLY_FULL * limit:
        what = 'maxmemory' if most else "the machine's memory"
        yield warn(f'{used // MIB} MiB are used, of {limit // MIB} MiB of {what}',
                   'find who fills it (celery qos tenants), give tenants a capacity, or give Redis more memory')
    if int(info.get('evicted_keys', 0)):
        yield warn(f'Redis has deleted {counted(int(info["evicted_keys"]), "key")} for want of memory since it was '
                   'started',
                   'if tasks were among them they are gone; see maxmemory-policy')


def replication(patient: Patient) -> Iterator[Finding]:
    """What a failover loses."""
    info = patient.info
    replicas, wanted = int(info.get('connected_slaves', 0)), patient.setting('min-replicas-to-write')
    follow = f'{counted(replicas, "replica")} {"follows" if replicas == 1 else "follow"}'
    in_time = info.get('min_slaves_good_slaves')
    if info.get('role') != 'master':
        of = f'{info.get("master_host")}:{info.get("master_port")}'
        lost = '' if info.get('master_link_status') == 'up' else ', which it does not reach,'
        what = 'takes no writes' if info.get('slave_read_only', 1) else 'loses what is written here with its next copy'
        yield bad(f'the server is a replica of {of}{lost} and {what}',
                  'name the master in the broker URL, or use qos-sentinel://')
    elif in_time is not None and int(in_time) < int(wanted or 1):
        yield bad(f'the server takes no writes: {in_time} of {counted(replicas, "replica")} '
                  f'{"is" if int(in_time) == 1 else "are"} in time, and min-replicas-to-write is {wanted or "more"}',
                  'bring the replicas back, or, to go on without them: CONFIG SET min-replicas-to-write 0')
    elif not replicas:
        yield ok('the server has no replicas: it is as available as its machine')
    elif wanted == '0':
        yield warn(f'{follow}, but the server also takes writes where none does: after a failover '
                   'these tasks are gone', 'CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10')
    else:
        yield ok(f'{follow}; min-replicas-to-write is {wanted or "not known"}')
    behind = [name for name, value in info.items() if name.startswith('slave') and isinstance(value, dict)
              and value.get('state') != 'online']
    if behind:
        yield warn(f'{len(behind)} of the replicas are not up to date', 'look at their logs')


def clock(patient: Patient) -> Iterator[Finding]:
    """`eta`, `expires` and waits are reckoned by the server's clock; publishers say them by their own."""
    skew = min((_skew(patient.client) for _ in range(3)), key=abs)
    text = f'the clock here is {abs(skew):.1f} s {"ahead of" if skew > 0 else "behind"} that of the server'
    remedy = 'have both machines set their clocks by NTP'
    if abs(skew) > MUCH_SKEW:
        yield bad(f'{text}: what is published here with eta, countdown or expires comes so much '
                  f'too {"late" if skew > 0 else "early"}',
                  remedy)
    elif abs(skew) > SKEW:
        yield warn(f'{text}: eta, countdown and expires are off by as much', remedy)
    else:
        yield ok(f"the clock here is within {SKEW:g} s of the server's")


def _skew(client: Any) -> float:
    before = time()
    seconds, microseconds = client.time()
    after = time()
    return (before + after) / 2 - (seconds + microseconds / 1e6)


def connections(patient: Patient) -> Iterator[Finding]:
    """Whether the server lets connections live, and notices dead ones."""
    timeout, keepalive = patient.setting('timeout'), patient.setting('tcp-keepalive')
    limits = patient.setting('client-output-buffer-limit')
    if timeout is None:
        yield ok('the settings of the server cannot be read by this user (CONFIG GET); of timeout, tcp-keepalive and '
                 'client-output-buffer-limit nothing is known')
        return
    wrong = False
    if 0 < int(timeout) < SHORT_TIMEOUT:
        wrong = True
        yield warn(f'timeout is {timeout}: the server closes connections that were idle for so many seconds, and '
                   'publishers connect anew each time', 'CONFIG SET timeout 0')
    if keepalive == '0':
        wrong = True
        yield warn('tcp-keepalive is 0: the server keeps connections of machines that are gone',
                   'CONFIG SET tcp-keepalive 300')
    words = (limits or '').split()
    of_kind = {words[i]: words[i + 1:i + 4] for i in range(0, len(words) - 3, 4)}
    if any(int(each) for each in of_kind.get('normal', [])):
        wrong = True
        yield warn(f'client-output-buffer-limit normal is {" ".join(of_kind["normal"])}: a worker that is sent many '
                   'large tasks at once loses its connection', 'CONFIG SET client-output-buffer-limit "normal 0 0 0"')
    most, clients = patient.setting('maxclients'), int(patient.info.get('connected_clients', 0))
    if most and clients > NEARLY_FULL * int(most):
        wrong = True
        yield warn(f'{counted(clients, "client")} connected, of {most} that may be',
                   'raise maxclients, or lower broker_pool_limit')
    if not wrong:
        yield ok('idle connections stay open, dead ones are noticed, and replies may be large')
