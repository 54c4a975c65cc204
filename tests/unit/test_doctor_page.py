"""docs/doctor.md and docs/howto/inspect.md say what there is."""
from __future__ import annotations

import re
from pathlib import Path

from celery.worker.control import Panel

from celery_qos.commands import qos
from celery_qos.doctor import CHECKS

DOCS = Path(__file__).parents[2] / 'docs'


def test_every_check_is_explained():
    rows = re.findall(r'^\| `(\w+)` \|', (DOCS / 'doctor.md').read_text(encoding='utf-8'), re.MULTILINE)
    assert rows == sorted(rows, key=[check.__name__ for check in CHECKS].index)
    assert len(rows) == len(CHECKS)


def test_every_remote_command_is_explained():
    assert qos.name == 'qos'        # its module has them registered
    page = (DOCS / 'howto' / 'inspect.md').read_text(encoding='utf-8')
    named = set(re.findall(r'`(qos_\w+)`', page))
    assert named == {name for name in Panel.data if name.startswith('qos_')}
