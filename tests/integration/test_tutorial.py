"""The tutorial, typed as it stands, and what it says one sees then."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from celery_qos.embedded import EmbeddedRedis
from tests.integration.test_docs_code import URL, blocks
from tests.integration.workers import ROOT, Worker
from tests.until import until

pytestmark = pytest.mark.once

#: The environment that these make is the test's.
NOT_TYPED = re.compile(r'python3 -m venv |\. |pip ')
WORKER = 'celery -A shop worker --concurrency 1 --loglevel INFO'


def test_what_it_says_one_sees(server: EmbeddedRedis, tmp_path: Path):
    env = {'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)]),
           'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])}

    def type_in(command: str) -> str:
        run = subprocess.run(command, shell=True, cwd=tmp_path, env={**os.environ, **env}, text=True, timeout=60,
                             capture_output=True)
        assert run.returncode == 0, f'{command}: {run.stdout}{run.stderr}'
        return run.stdout

    commands = []
    for block in blocks(ROOT / 'docs' / 'tutorial.md'):
        if block.language == 'python':
            name = re.match(r'# (\w+\.py)\n', block.code)[1]
            (tmp_path / name).write_text(URL.sub(lambda url: server.url(url[1]), block.code), encoding='utf-8')
        elif block.language == 'sh':
            commands += [line for line in block.code.splitlines() if not NOT_TYPED.match(line)]
    assert WORKER in commands
    before = list(takewhile(lambda command: command != WORKER, commands))
    after = commands[len(before) + 1:]

    *_, tenants = map(type_in, before)
    assert re.findall(r'^(\w+) +\S+ +(\d+) ', tenants, re.MULTILINE) == [('globex', '100'), ('acme', '3')]

    with Worker(server, pool='prefork', concurrency=1, app='shop', env=env) as worker:
        def printed() -> list[str]:
            return re.findall(r'\] (\w+ \d+)\n', worker.log())

        until(lambda: len(printed()) >= 8)
        shown = [block.code.splitlines() for block in blocks(ROOT / 'docs' / 'tutorial.md') if block.language == 'text']
        assert printed()[:8] in shown

        answers = {}
        for command in after:
            answers[command] = type_in(command)
            if ' set tenant acme weight=3' in command:
                # What had been delivered by then still runs.
                since = len(printed()) + 2
                until(lambda since=since: len(printed()) >= since + 12)
                turns = [line.split()[0] for line in printed()[since:since + 12]]
                assert 8 <= turns.count('acme') <= 10, turns
        assert 'is paused' in answers['celery -A shop qos why globex']
