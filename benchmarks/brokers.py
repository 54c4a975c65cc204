"""The brokers that are compared; each starts a server of its own and ends it."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple, Optional

import amqp
from redis import Redis

import celery_qos
from celery_qos.embedded import EmbeddedRedis, NoServer, find_binaries
from celery_qos.scripts import Script, script

from .figures import BenchmarkError

__all__ = ('BROKERS', 'Broker', 'RedisBroker', 'QosBroker', 'SlowCall')

#: Where Debian's package puts it; the one on PATH changes to a user that the package made.
_RABBITMQ = Path('/usr/lib/rabbitmq/bin/rabbitmq-server')
#: Seconds that RabbitMQ may take to start.
_RABBITMQ_TIMEOUT = 60.0
#: Calls of the server that take longer, in us, are recorded.
_SLOW = 1000


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


class SlowCall(NamedTuple):
    """A script call that took the server long."""

    script: str
    #: Whether it was the first on its server, which compiles the script.
    first: bool
    ms: float

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Optional[SlowCall]:
        """From an entry of SLOWLOG; None where it is another command."""
        command, _, rest = entry['command'].decode(errors='replace').partition(' ')
        # The log shortens what is long.
        name = next((name for name, script in _scripts().items()
                     if rest[:40] == script.sha or script.source.startswith(rest[:40])), '?')
        return cls(name, command == 'EVAL', entry['duration'] / 1000) if command in ('EVAL', 'EVALSHA') else None


@cache
def _scripts() -> dict[str, Script]:
    return {path.stem: script(path.stem) for path in Path(celery_qos.__path__[0], 'lua').glob('*.lua')}


class Broker:
    """A broker with a server of its own while it is entered. This one has none: `memory`.

    Arguments:
        binary: the redis-server to run, where the broker is on Redis.
    """

    #: What reports call it.
    name = 'memory'
    #: Value of the setting broker_transport; the URL's scheme says it where empty.
    transport = ''
    #: Whether its tasks are published with a tenant.
    has_tenants = False
    #: Words for the command line of its workers, which are otherwise started as Celery starts them.
    worker_options: tuple[str, ...] = ()

    def __init__(self, binary: Optional[Path] = None) -> None:
        self.binary = binary

    @classmethod
    def why_not(cls) -> str:
        """Why it cannot be run here; '' where it can."""
        return ''

    @property
    def url(self) -> str:
        return 'memory://'

    @property
    def version(self) -> str:
        """Of the server."""
        return ''

    def client(self) -> Redis:
        """Of its Redis server."""
        raise BenchmarkError(f'{self.name} is not on Redis')

    def reset(self) -> None:
        """Be as a server that has just been started."""

    def environment(self) -> dict[str, str]:
        """From which `app` learns which broker it is on."""
        return {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'PYTHONUNBUFFERED': '1',
                'BENCH_BROKER': self.url, 'BENCH_TRANSPORT': self.transport}

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class RedisBroker(Broker):
    """Celery's own transport on Redis. TCP, as RabbitMQ is reached through."""

    name = 'redis'
    scheme = 'redis'

    def __init__(self, binary: Optional[Path] = None) -> None:
        super().__init__(binary)
        self._server: Optional[EmbeddedRedis] = None

    @classmethod
    def why_not(cls) -> str:
        return '' if next(find_binaries(), None) else 'no redis-server found'

    @property
    def url(self) -> str:
        return f'{self.scheme}://127.0.0.1:{self._port}/0'

    @property
    def socket(self) -> str:
        """Path of the server's unix socket."""
        assert self._server is not None, 'not started'
        return self._server.socket

    @property
    def version(self) -> str:
        return f'Redis {self.client().info("server")["redis_version"]}'

    def client(self) -> Redis:
        assert self._server is not None, 'not started'
        return self._server.client()

    def reset(self) -> None:
        self._stop()
        self._port = free_port()
        self._server = EmbeddedRedis(
            self.binary, '--port', str(self._port), '--bind', '127.0.0.1',
            '--slowlog-log-slower-than', str(_SLOW), '--slowlog-max-len', '100000')
        try:
            self._server.start()
        except NoServer as exc:
            raise BenchmarkError(str(exc)) from exc

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Broker:
        self.reset()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()


class QosBroker(RedisBroker):
    """celery-qos."""

    name = 'qos'
    scheme = 'qos'
    has_tenants = True

    def slow_calls(self) -> list[SlowCall]:
        """Script calls since the last reset that took longer than 1 ms."""
        with self.client() as client:
            return [call for entry in client.slowlog_get(-1) if (call := SlowCall.of(entry))]


class RedisPlusBroker(RedisBroker):
    """The package celery-redis-plus."""

    name = 'redis-plus'
    transport = 'celery_redis_plus.transport:Transport'

    @classmethod
    def why_not(cls) -> str:
        if sys.version_info < (3, 13):
            return 'celery-redis-plus needs Python 3.13'
        return super().why_not() if find_spec('celery_redis_plus') else 'celery-redis-plus is not installed'


class RabbitBroker(Broker):
    """RabbitMQ through py-amqp; one server for all cases, as it takes seconds to start."""

    name = 'rabbitmq'
    # In its favour: with both, a worker of Celery 5.5 to 5.7 pauses for up to 2 s now and then on py-amqp.
    worker_options = ('--without-gossip', '--without-mingle')

    def __init__(self, binary: Optional[Path] = None) -> None:
        super().__init__(binary)
        self._port, self._epmd_port = free_port(), free_port()

    @classmethod
    def why_not(cls) -> str:
        return '' if _RABBITMQ.exists() else f'no {_RABBITMQ}: the package rabbitmq-server of Debian is not installed'

    @property
    def url(self) -> str:
        return f'amqp://guest:guest@127.0.0.1:{self._port}//'

    @property
    def version(self) -> str:
        with self._connection() as connection:
            return f'RabbitMQ {connection.server_properties["version"]}'

    def reset(self) -> None:
        with self._connection() as connection:
            connection.channel().queue_delete('celery')

    def _connection(self) -> amqp.Connection:
        return amqp.Connection(f'127.0.0.1:{self._port}', connect_timeout=5)

    def __enter__(self) -> Broker:
        self._folder = tempfile.mkdtemp(prefix='celery-qos-bench-')
        self._env = {
            **os.environ, 'HOME': self._folder, 'ERL_EPMD_PORT': str(self._epmd_port),
            'RABBITMQ_NODENAME': f'bench-{os.getpid()}@localhost', 'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODE_PORT': str(self._port), 'RABBITMQ_DIST_PORT': str(free_port()),
            'RABBITMQ_CONFIG_FILE': f'{self._folder}/none', 'RABBITMQ_CONF_ENV_FILE': '/dev/null',
            'RABBITMQ_ENABLED_PLUGINS_FILE': f'{self._folder}/plugins', 'RABBITMQ_MNESIA_BASE': f'{self._folder}/data',
            'RABBITMQ_LOG_BASE': f'{self._folder}/log', 'RABBITMQ_PID_FILE': f'{self._folder}/pid'}
        with open(f'{self._folder}/out', 'wb') as out:
            self._process = subprocess.Popen([str(_RABBITMQ)], env=self._env, stdin=subprocess.DEVNULL, stdout=out,
                                             stderr=out, start_new_session=True)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        deadline = monotonic() + _RABBITMQ_TIMEOUT
        while True:
            try:
                with self._connection():
                    return
            except (OSError, amqp.AMQPError) as exc:
                if self._process.poll() is not None or monotonic() > deadline:
                    log = Path(self._folder, 'out').read_text(errors='replace')[-1000:]
                    raise BenchmarkError(f'RabbitMQ did not start: {log}') from exc
                sleep(0.1)

    def __exit__(self, *exc_info: object) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        # Erlang's name server stays when the node ends.
        subprocess.run(['epmd', '-kill'], env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self._folder, ignore_errors=True)


#: All of them, by name.
BROKERS: dict[str, type[Broker]] = {
    kind.name: kind for kind in (QosBroker, RedisBroker, RedisPlusBroker, RabbitBroker, Broker)}
