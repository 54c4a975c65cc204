"""A Prometheus of one's own."""
from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from ..until import until
from .ports import free_port

__all__ = ('Prometheus', 'needed')


def needed(program: str) -> str:
    """Its path; skips the test where this machine has none."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f'no {program} on this machine: apt-get install prometheus')
    return path


class Prometheus:
    """Scrapes each second, as soon as it is entered; ends on exit.

    Arguments:
        folder: for its config and its data.
        targets: name of a job to ``host:port``.
        rules: files of rules.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str], rules: Iterable[Path] = ()) -> None:
        self._program = needed('prometheus')
        self._folder, self._port = folder, free_port()
        config = {'global': {'scrape_interval': '1s', 'scrape_timeout': '1s', 'evaluation_interval': '1s'},
                  'rule_files': [str(path) for path in rules],
                  'scrape_configs': [{'job_name': name, 'static_configs': [{'targets': [target]}]}
                                     for name, target in targets.items()]}
        # JSON is YAML too.
        (folder / 'prometheus.yml').write_text(json.dumps(config), encoding='utf-8')

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(
            [self._program, f'--config.file={self._folder}/prometheus.yml', f'--storage.tsdb.path={self._folder}/data',
             f'--web.listen-address=127.0.0.1:{self._port}', '--log.level=error'], cwd=self._folder)
        until(self._is_ready, what='Prometheus is ready')
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, 'Prometheus ended'
        try:
            with urlopen(f'http://127.0.0.1:{self._port}/-/ready', timeout=5) as reply:
                return reply.status == 200
        except (URLError, ConnectionError):
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API's reply."""
        with urlopen(f'http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(parameters)}', timeout=5) as reply:
            return json.load(reply)['data']

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now."""
        return [(row['metric'], float(row['value'][1])) for row in self.get('query', query=expression)['result']]
