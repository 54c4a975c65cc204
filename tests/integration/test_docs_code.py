"""The code of the documentation: Python is run, page by page, on a real server; of commands, the options are known.

The blocks of a page share their names, and find `app`, `celery_qos` and a task `sync`. One whose first line is the name
of a file, ``# shop/tasks.py``, is added to that file, to be imported. A comment before a block says what else it is
given, in Python, ``<!-- given: task_id = '1' -->``, or why it is not run, ``<!-- not run: why -->``. As the first line
of a page, the latter holds for all of it.
"""
from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple, Optional

import pytest
from click.testing import CliRunner

from celery_qos.embedded import EmbeddedRedis
from tests.integration.workers import ROOT, environment

pytestmark = pytest.mark.once

PAGES = sorted((ROOT / 'docs').rglob('*.md'))
#: Pages whose Python is run by tests of their own; as is that of the README.
BY_OTHERS = {
    'docs/tutorial.md': 'tests/integration/test_tutorial.py',
    'docs/howto/django.md': 'tests/frameworks/test_django.py',
    'docs/howto/web-frameworks.md': 'tests/frameworks/test_web.py',
    'docs/howto/schedulers-and-batches.md': 'tests/frameworks/test_schedulers.py',
}
WITH_COMMANDS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *PAGES]
BLOCK = re.compile(r'(?:^ *<!-- (?P<mark>given|not run):\s(?P<text>(?:(?!-->).)*)-->\n\s*)?'
                   r'^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$', re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r'<!-- not run:\s((?:(?!-->).)*)-->\n', re.DOTALL)
URL = re.compile(r'(qos|redis)://localhost(?::6379)?(?:/(\d+))?')
#: Reads a page's blocks, each a line number and its text, and runs them.
RUN = r'''
import json, pathlib, re, sys
names = {'__name__': 'page'}
for line, code in json.load(sys.stdin):
    compiled = compile(chr(10) * line + code, sys.argv[1], 'exec')
    if name := re.match(r'# ([\w/]+\.py)\n', code):
        file = pathlib.Path(name[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open('a') as written:
            written.write(code)
    else:
        exec(compiled, names)
'''
GIVEN = '''
from celery import Celery
import celery_qos
app = Celery('shop', broker='qos://localhost:6379/0')
@app.task(tenant_key='account_id')
def sync(account_id):
    ...
'''


class Block(NamedTuple):
    line: int
    language: str
    code: str
    given: str
    not_run: Optional[str]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding='utf-8')
    whole = NOT_RUN.match(text)
    return [Block(text.count('\n', 0, found.start('code')), found['language'], dedent(found['code']),
                  dedent(found['text']) if found['mark'] == 'given' else '',
                  found['text'].strip() if found['mark'] == 'not run' else whole and whole[1].strip())
            for found in BLOCK.finditer(text)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runs(page: Path) -> bool:
    """Whether there is Python on the page that no other test runs."""
    return name(page) not in BY_OTHERS and any(
        block.language == 'python' and block.not_run is None for block in blocks(page))


def test_blocks_are_found():
    assert [block.language for block in blocks(ROOT / 'docs' / 'configuration.md')].count('python') >= 7
    assert all(block.not_run != '' for page in PAGES for block in blocks(page))


def test_what_others_run_is_run():
    for page, test in BY_OTHERS.items():
        assert not (ROOT / page).exists() or (ROOT / test).exists(), test


@pytest.mark.parametrize('page', list(filter(runs, PAGES)), ids=name)
def test_python_runs(page: Path, server: EmbeddedRedis, tmp_path: Path):
    code = [(0, GIVEN)]
    for block in blocks(page):
        if block.language == 'python' and block.not_run is None:
            code += [(block.line, part) for part in (block.given, block.code) if part]
    code = [(line, URL.sub(lambda url: server.url(url[1], int(url[2] or 0)), part)) for line, part in code]

    run = subprocess.run([sys.executable, '-c', RUN, name(page)], input=json.dumps(code), text=True, timeout=60,
                         capture_output=True, cwd=tmp_path, env=environment(server.url('qos')))

    assert run.returncode == 0, run.stderr


def commands(page: Path) -> list[list[str]]:
    """Those of Celery and of this project, as words."""
    found = []
    for block in blocks(page):
        if block.language in ('sh', 'bash', 'console') and block.not_run is None:
            for line in block.code.replace('\\\n', ' ').splitlines():
                for command in re.split(r'&&|\|', line.removeprefix('$ ')):
                    words = shlex.split(command, comments=True)
                    while words and re.match(r'\w+=', words[0]):
                        del words[0]
                    found.append(words)
    return [words for words in found if words and re.search(
        r'^(\S*/)?(celery|celery-qos|python -m (celery|celery_qos|tests|benchmarks)\S*|python docs/\S+) ',
        ' '.join(words) + ' ')]


@cache
def help_of(*words: str) -> str:
    """What a command says with ``--help``; fails where that is refused."""
    program = Path(words[0]).name
    if program in ('celery', 'celery-qos'):
        from celery.bin.celery import celery

        from celery_qos.cli import main
        run = CliRunner().invoke(celery if program == 'celery' else main, [*words[1:], '--help'])
        assert run.exit_code == 0, run.output
        return run.output
    program_words = words[:3] if words[1] == '-m' else words[:2]
    return subprocess.run([sys.executable, *program_words[1:], '--help'], check=True, text=True, capture_output=True,
                          timeout=60, cwd=ROOT).stdout


@pytest.mark.parametrize('page', [page for page in WITH_COMMANDS if commands(page)], ids=name)
def test_commands_have_these_options(page: Path):
    for words in commands(page):
        # The app is not imported: help is the same for all.
        words = shlex.split(re.sub(r'(?<= )(-A|--app)[ =]\S+ ', '', shlex.join(words) + ' '))
        if words[1:2] == ['-m'] and words[2] == 'celery':
            words = words[2:]
        # With it, `inspect` and `control` list their commands in place of their options.
        words = [word for word in words if word != '--list']
        text = help_of(*words) if Path(words[0]).name != 'python' else help_of(*words[:3])
        for word in words[1:]:
            if re.match(r'--?[a-zA-Z]', word) and word != '-m':
                option = word.partition('=')[0]
                assert re.search(rf'(?<![\w-]){option}(?![\w-])', text), f'{shlex.join(words)}: no {option} in\n{text}'
