"""Makes a project of the files that a how-to page shows, and sees what its tasks were run for."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery_qos.embedded import EmbeddedRedis
from tests.integration.workers import ROOT, Worker, environment

__all__ = ('Project', 'blocks')

#: A block that is a file says so in its first line.
_FILE = re.compile(r'^# ([\w/]+\.py)\n(.*)', re.DOTALL)
#: Included by every worker: writes down which task runs for whom.
_NOTES = '''
import json, os, time
from celery.signals import task_prerun
from redis import Redis

notes = Redis(unix_socket_path=os.environ['QOS_TEST_NOTES'], db=2)

@task_prerun.connect
def note(task, args, **kwargs):
    name = task.name.rpartition('.')[2]
    requests = args[0] if args and isinstance(args[0], list) else []
    for each in requests or [task.request]:
        tenant = each.request_dict.get('tenant') if requests else each.get('tenant')
        notes.rpush('notes', json.dumps([name, *each.args, *each.kwargs.values(), tenant]))
    while notes.exists('hold'):
        time.sleep(0.02)
'''


def blocks(page: str) -> list[str]:
    """The Python blocks of ``docs/howto/<page>.md``."""
    text = (ROOT / 'docs' / 'howto' / f'{page}.md').read_text(encoding='utf-8')
    return re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


class Project:
    """The files of a page in a folder, with the URLs of `server` in place of those on the page.

    Arguments:
        before: a file's path to what it begins with, where the page shows but a part of it.
    """

    def __init__(self, page: str, folder: Path, server: EmbeddedRedis, before: Mapping[str, str] | None = None) -> None:
        self.folder, self._server = folder, server
        self._notes = server.client(db=2)
        files = {'notes.py': _NOTES, **(before or {})}
        for block in blocks(page):
            if found := _FILE.match(block):
                files[found[1]] = files.get(found[1], '') + found[2]
        for path, text in files.items():
            text = text.replace('qos://localhost:6379/0', server.url('qos'))
            text = re.sub(r'redis://localhost:6379/(\d)', rf'unix://{server.socket}?db=\1', text)
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding='utf-8')
        self._env = {'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)]), 'QOS_TEST_NOTES': server.socket}

    def run(self, program: str) -> None:
        """Run Python code in a process of its own."""
        subprocess.run([sys.executable, '-W', 'ignore', '-c', program], check=True, timeout=60, cwd=self.folder,
                       env=environment(self._server.url('qos'), env=self._env))

    def worker(self, app: str, pool: str = 'threads', options: tuple[str, ...] = (), **kwargs: Any) -> Worker:
        return Worker(self._server, pool, app=app, options=('-I', 'notes', *options), env=self._env, **kwargs)

    def hold(self) -> None:
        """No task that begins comes to its end, until `let_go`."""
        self._notes.set('hold', 1)

    def let_go(self) -> None:
        self._notes.delete('hold')

    @property
    def times(self) -> int:
        """How many tasks began."""
        return self._notes.llen('notes')

    def notes(self) -> list[tuple[Any, ...]]:
        """Of each task that began: name, arguments, tenant; sorted, and each but once."""
        return sorted({tuple(json.loads(note)) for note in self._notes.lrange('notes', 0, -1)}, key=repr)
