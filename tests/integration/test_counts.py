"""How much crosses the wire, counted: round trips and bytes a task, and what an idle worker sends."""
from __future__ import annotations

import pytest
from redis import Redis

from benchmarks.brokers import QosBroker
from benchmarks.counts import Drain, Idle, Publish, Wakeups, events, reads
from benchmarks.wire import Turn, Wired, server_micros

pytestmark = pytest.mark.once

#: Round trips beyond those of the tasks: a worker's first read, and reads that end by themselves.
BESIDE = 5
#: What a worker sends that is not for tasks, at its start and by the clock, within a test.
UPKEEP = 60
#: Bytes, beyond the argument, of a task with its headers; a worker's read, and its settling.
HEADERS, ASKING = 3000, 1000


@pytest.fixture
def broker(server):
    with Wired(QosBroker, server.socket) as broker:
        yield broker


def total(counter) -> int:
    return sum(counter.values())


def test_wire_tells_turns_commands_and_bytes(broker, redis):
    with Redis(unix_socket_path=broker.wire.socket) as client:
        client.ping()
        redis.config_resetstat()
        with broker.wire.recording() as trips:
            client.set('big', 'x' * 3_000_000)
            client.get('big')
            with client.pipeline(transaction=True) as pipe:
                pipe.lpush('list', 1).lpush('list', 2).execute()
            with client.pipeline(transaction=False) as pipe:
                pipe.lpush('list', 3).ping().execute()
        stats = redis.info('commandstats')

    put, get = Turn(('SET',)), Turn(('GET',))
    assert dict(trips.turns) == {
        put: 1, get: 1, Turn(('MULTI', 'LPUSH', 'LPUSH', 'EXEC')): 1, Turn(('LPUSH', 'PING')): 1}
    assert (trips.sent[put] // 10 ** 6, trips.received[put]) == (3, len(b'+OK\r\n'))
    assert (trips.sent[get], trips.received[get] // 10 ** 6) == (len(b'*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n'), 3)
    assert trips.top_level == {'SET': 1, 'GET': 1, 'MULTI': 1, 'EXEC': 1, 'LPUSH': 1, 'PING': 1}
    # The time of two of its LPUSHs is in EXEC's.
    others = sum(stats[f'cmdstat_{name}']['usec'] for name in ('set', 'get', 'multi', 'exec', 'ping'))
    assert server_micros(redis, trips) == pytest.approx(others + stats['cmdstat_lpush']['usec'] / 3)


def test_publish_is_one_round_trip_and_the_payload_crosses_once(broker):
    found = Publish(100, 100_000).counted(broker)

    assert 100 <= total(found.for_tasks.turns) <= 100 + BESIDE, f'\n{found.trips}'
    assert total(found.for_tasks.sent) < 100 * (100_000 + HEADERS), f'\n{found.trips}'
    assert total(found.for_tasks.received) < 100 * 100, f'\n{found.trips}'


def test_payload_crosses_once_to_the_worker(broker):
    found = Drain('solo', 2, 4, False, 100, 100_000).counted(broker)

    assert total(found.for_tasks.received) < 100 * (100_000 + HEADERS), f'\n{found.trips}'
    assert total(found.for_tasks.sent) < 100 * ASKING, f'\n{found.trips}'


@pytest.mark.parametrize('pool, acks_late', [('solo', True), ('threads', False), ('gevent', False), ('prefork', True)])
def test_read_and_settle_at_prefetch_1_are_two_round_trips(broker, pool, acks_late):
    found = Drain(pool, 1, 1, acks_late, 200).counted(broker)

    assert total(found.trips.turns) - total(found.for_tasks.turns) <= UPKEEP, f'\n{found.trips}'
    assert total(found.for_tasks.turns) <= 2 * 200 + BESIDE, f'\n{found.trips}'


@pytest.mark.parametrize('pool, acks_late', [('solo', False), ('threads', True), ('gevent', True), ('prefork', False)])
def test_read_and_settle_at_prefetch_8_are_half_a_round_trip(broker, pool, acks_late):
    """On a machine that is busy with something else, some acks have waited for others for as long as they may."""
    found = Drain(pool, 2, 4, acks_late, 400).counted(broker)

    assert total(found.trips.turns) - total(found.for_tasks.turns) <= UPKEEP, f'\n{found.trips}'
    assert total(found.for_tasks.turns) <= 400 * (0.95 if pool == 'gevent' else 0.75) + BESIDE, f'\n{found.trips}'


def test_an_idle_worker_sends_one_command_a_second(broker):
    found = Idle(8).counted(broker)
    ours = found.trips.of(lambda turn: not events(turn))

    # One more may fall into the time.
    assert total(ours.top_level) <= 8 + 1, f'\n{found.trips}'


def test_a_task_wakes_one_of_four_idle_workers(broker):
    found = Wakeups(4, 100).counted(broker)

    assert total(found.trips.of(reads).turns) <= 1.2 * 100, f'\n{found.trips}'


def test_four_busy_workers_do_not_wake_each_other(broker):
    found = Drain('solo', 1, 1, False, 400, workers=4).counted(broker)

    assert total(found.trips.of(reads).turns) <= 1.2 * 400, f'\n{found.trips}'
