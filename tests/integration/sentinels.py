"""A master, its replica and three Sentinels that watch them, all real."""
from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from celery_qos.embedded import EmbeddedRedis

from ..until import until
from .ports import free_port

__all__ = ('Deployment', 'NAME', 'PASSWORD')

NAME, PASSWORD = 'main', 's3cret'


class Deployment:
    """Looks like a server to a `Ledger`.

    Arguments:
        binary: of all servers.
        folder: where the Sentinels keep their configuration.
    """

    def __init__(self, binary: Any, folder: Path) -> None:
        self._binary, self._folder = binary, folder
        self._stack = ExitStack()
        self.ports: list[int] = []
        self.servers: dict[int, EmbeddedRedis] = {}

    def _serve(self, *arguments: str) -> int:
        port = free_port()
        server = EmbeddedRedis(
            self._binary, '--port', str(port), '--bind', '127.0.0.1', '--loglevel', 'warning', '--masterauth',
            PASSWORD, '--repl-diskless-sync-delay', '0', *arguments)
        self.servers[port] = server
        self._stack.callback(server.stop)
        server.start().client().config_set('requirepass', PASSWORD)
        return port

    def _watch(self, master: int) -> int:
        port = free_port()
        conf = self._folder / f'{port}.conf'
        conf.write_text(f'''port {port}
bind 127.0.0.1
dir {self._folder}
sentinel monitor {NAME} 127.0.0.1 {master} 2
sentinel auth-pass {NAME} {PASSWORD}
sentinel down-after-milliseconds {NAME} 500
sentinel failover-timeout {NAME} 2000
''')
        process = subprocess.Popen([str(self._binary), str(conf), '--sentinel'], stdout=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return port

    def __enter__(self) -> Deployment:
        try:
            master = self._serve()
            replica = self._serve('--replicaof', '127.0.0.1', str(master))
            until(lambda: self.server(replica).info('replication').get('master_link_status') == 'up')
            self.ports = [self._watch(master) for _ in range(3)]
            until(lambda: all(self._sees_all(port) for port in self.ports))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _sees_all(self, port: int) -> bool:
        try:
            state = Redis('127.0.0.1', port, retry=Retry(NoBackoff(), 0)).sentinel_masters()[NAME]
        except RedisError:
            return False
        return state['num-slaves'] == 1 and state['num-other-sentinels'] == 2

    def server(self, port: int) -> Redis:
        return Redis('127.0.0.1', port, password=PASSWORD)

    @property
    def master(self) -> int:
        """The port of the one that is master now, as the Sentinels have it."""
        return Sentinel([('127.0.0.1', port) for port in self.ports]).discover_master(NAME)[1]

    def has_other_master(self, first: int) -> bool:
        """Whether a failover from that port is over."""
        try:
            return self.master != first
        except MasterNotFoundError:
            return False

    def client(self, db: int = 0) -> Redis:
        sentinel = Sentinel([('127.0.0.1', port) for port in self.ports])
        return sentinel.master_for(NAME, password=PASSWORD, db=db)

    def url(self, scheme: str, db: int = 0) -> str:
        hosts = [f'127.0.0.1:{port}' for port in self.ports]
        hosts[0] = f':{PASSWORD}@{hosts[0]}/{db}'
        return ';'.join(f'{scheme}-sentinel://{host}' for host in hosts)

    def conf(self, **options: Any) -> dict[str, Any]:
        return {'broker_transport_options': {'master_name': NAME, **options}}
