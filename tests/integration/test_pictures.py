"""The script that draws the pictures of docs/algorithms.md, run as a reader would."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / 'docs'


def test_draws_what_the_page_says(tmp_path):
    folder = tmp_path / 'pictures'
    run = subprocess.run([sys.executable, DOCS / 'pictures.py', '--to', folder, 'sub-queues'], text=True, timeout=90,
                         capture_output=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr

    rows = {'c0': 'high', 'c1': 'medium', 'c2': 'low'}
    bars = [(float(rect.get('x')), rows[rect.get('class')])
            for rect in ElementTree.parse(folder / 'sub-queues.svg').getroot().iter('{http://www.w3.org/2000/svg}rect')
            if rect.get('class') in rows]
    turns = [name for _, name in sorted(bars)]
    page = re.search(r'`(high [a-z ]+)`', (DOCS / 'algorithms.md').read_text(encoding='utf-8'))
    assert page and turns == 3 * page[1].split()
    assert run.stdout == f'sub-queues: {" ".join(turns)}\n'
    assert [path.name for path in folder.iterdir()] == ['sub-queues.svg']


def test_a_picture_that_does_not_exist_is_an_error(tmp_path):
    run = subprocess.run([sys.executable, DOCS / 'pictures.py', '--to', tmp_path, 'fifo'], text=True, timeout=60,
                         capture_output=True)
    assert run.returncode == 2 and 'sub-queues' in run.stderr
